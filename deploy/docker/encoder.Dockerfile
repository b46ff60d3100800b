# The encoder: CUDA torch from the package index, the code, the bundled model; also fetches weights.
# Build in the repository's root: docker build -f deploy/docker/encoder.Dockerfile -t glimpse-encoder:0.1.0 .
# For nodes without a GPU, with --build-arg UV_TORCH_BACKEND=cpu: uv then takes PyTorch's own CPU build.
# The base image is a tag here; give it with its digest where images are made to be deployed.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ARG UV_TORCH_BACKEND
RUN python -m pip install --no-cache-dir uv==0.13.8 \
    && python -m venv --without-pip /opt/glimpse
# Dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt LICENSE ./
RUN uv pip install --python /opt/glimpse/bin/python --compile-bytecode \
    -c constraints.txt -r pyproject.toml --group encoder
COPY glimpse glimpse
RUN uv pip install --python /opt/glimpse/bin/python --compile-bytecode --no-deps .
COPY services /opt/glimpse/src/services
COPY demo /opt/glimpse/src/demo
RUN /opt/glimpse/bin/python -m compileall -q /opt/glimpse/src

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin glimpse
COPY --from=build /opt/glimpse /opt/glimpse
ENV PATH=/opt/glimpse/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/glimpse/src \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
CMD ["python", "-m", "services.encoder"]
