# The load tests: ghz, its configurations, and what judges them. Not a part of any deployment.
# Build in the repository's root: docker build -f deploy/docker/load.Dockerfile -t glimpse-load:0.1.0 .
# The base images are tags here; give them with their digests where images are made to be deployed.
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${GO_IMAGE} AS ghz
ENV CGO_ENABLED=0
RUN GOBIN=/opt/ghz go install github.com/bojand/ghz/cmd/ghz@v0.121.0

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m pip install --no-cache-dir uv==0.13.8 \
    && python -m venv --without-pip /opt/glimpse
COPY pyproject.toml constraints.txt LICENSE ./
RUN uv pip install --python /opt/glimpse/bin/python --compile-bytecode \
    -c constraints.txt -r pyproject.toml --extra cli --group indexer

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin glimpse
COPY --from=ghz /opt/ghz/ghz /usr/local/bin/ghz
COPY --from=build /opt/glimpse /opt/glimpse
WORKDIR /opt/load
COPY protos protos
COPY glimpse glimpse
COPY services services
COPY demo demo
COPY benchmarks benchmarks
COPY tests tests
ENV PATH=/opt/glimpse/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "tests.load.run", "--help"]
