# Two stages: build the wheels that need a compiler, then run without one, as a user without rights.
# The base image is an argument, so that it can be replaced by a mirrored or self-made Debian with Python 3.11 to 3.13.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libgmp-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/edgenet \
    && /opt/edgenet/bin/pip install --no-cache-dir --no-deps --require-hashes -r config/lock/build.txt \
    && /opt/edgenet/bin/pip install --no-cache-dir --no-deps --require-hashes --no-build-isolation -r config/lock/run.txt \
    && /opt/edgenet/bin/pip install --no-cache-dir --no-deps --require-hashes -r config/lock/model.txt \
    && /opt/edgenet/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends libgmp10 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 edgenet && install -d -o edgenet -g edgenet -m 0700 /data
COPY --from=build /opt/edgenet /opt/edgenet
ENV PATH=/opt/edgenet/bin:$PATH EDGENET_DATA_DIR=/data
USER edgenet
VOLUME /data
EXPOSE 4001/tcp
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["edgenet-node", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edgenet-node"]
CMD ["run", "--listen", "/ip4/0.0.0.0/tcp/4001"]
