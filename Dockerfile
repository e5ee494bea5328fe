# The image of the service, and that of the schema (`--target schema`). docs/deploy.md says how to build them.
#
# Stages that need no compiler come first, so that builders which go through the file in order (those without BuildKit)
# build `--target prebuilt` and `--target schema` without fetching the Swift image.

# Base images are arguments: name others where no registry, or only your own, is reached.
ARG SWIFT_IMAGE=swift:6.3.1-bookworm
ARG RUNTIME_IMAGE=debian:12.11-slim

# What the service runs in; the program itself is put in below.
FROM ${RUNTIME_IMAGE} AS runtime
# A base that has these already needs no package mirror.
RUN set -eu; \
    packages='ca-certificates libcurl4 liblmdb0 librdkafka1 libsimdjson14 libstdc++6 libxxhash0 libzstd1 zlib1g'; \
    if ! dpkg-query --show $packages >/dev/null 2>&1; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    fi
# The number is fixed, because files of volumes and secrets belong to numbers. A new volume takes over the folder's
# owner and mode.
RUN groupadd --gid 10001 ingestd && \
    useradd --uid 10001 --gid ingestd --no-create-home --home-dir /var/lib/ingestd --shell /usr/sbin/nologin ingestd && \
    install --directory --owner=ingestd --group=ingestd --mode=0700 /var/lib/ingestd
# Loopback of a container reaches nobody. The journal's folder is the only one that is written to, so that the root
# file system can be read-only.
ENV HTTP_HOST=0.0.0.0 HTTP_PORT=8080 JOURNAL_PATH=/var/lib/ingestd/journal LOG_FORMAT=json
VOLUME /var/lib/ingestd
WORKDIR /var/lib/ingestd
EXPOSE 8080
USER 10001:10001
# Without a shell in between SIGTERM reaches the service, which then delivers for SHUTDOWN_TIMEOUT and ends.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/ingestd"]
CMD ["serve"]
# Whether the process works, not whether it is ready: a service whose journal is full answers 503 by design, and a
# restart would make no room, but drop connections.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/ingestd", "health", "--live"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="ingestd" \
    org.opencontainers.image.description="Takes events from Kafka and HTTP, keeps them safe on disk, and delivers them to ClickHouse." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"

# The service with a program that was built outside, for machines that reach no registry:
# `make stack-image STACK_BINARY=...`.
FROM runtime AS prebuilt
COPY .build-image/ingestd /usr/local/bin/ingestd

# Applies schema/*.sql once and ends.
FROM ${RUNTIME_IMAGE} AS schema
RUN set -eu; \
    packages='ca-certificates curl'; \
    if ! dpkg-query --show $packages >/dev/null 2>&1; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    fi
COPY tools/migrate /usr/local/share/ingestd/tools/migrate
COPY schema /usr/local/share/ingestd/schema
USER 10001:10001
ENTRYPOINT ["/usr/local/share/ingestd/tools/migrate"]
CMD ["--wait", "60"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="ingestd schema" \
    org.opencontainers.image.description="Applies the ClickHouse schema of ingestd." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"

FROM ${SWIFT_IMAGE} AS build
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        libcurl4-openssl-dev liblmdb-dev librdkafka-dev libsimdjson-dev libxxhash-dev libzstd-dev pkg-config zlib1g-dev
WORKDIR /source
# Dependencies are fetched again only when the package description has changed. Package.resolved need not be there.
COPY Package.swift Package.resolved* ./
RUN swift package resolve
COPY . .
# Swift's own libraries go into the program: the runtime image has none.
RUN swift build -c release --product ingestd --static-swift-stdlib && \
    install -D --strip "$(swift build -c release --static-swift-stdlib --show-bin-path)/ingestd" /out/ingestd

FROM runtime AS service
COPY --from=build /out/ingestd /usr/local/bin/ingestd
