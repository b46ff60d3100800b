# The encoder's code without its packages, which take 6 GB: pods get those of this checkout's
# environment as a volume, /packages.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin glimpse
COPY glimpse /opt/glimpse/src/glimpse
COPY services /opt/glimpse/src/services
COPY demo /opt/glimpse/src/demo
ENV PYTHONPATH=/opt/glimpse/src:/packages \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "services.encoder"]
