# Built from the top of the repository: docker build -f docker/relay.Dockerfile -t audiovault-relay .
#
# The build does not see the git directory. These two arguments give the program its commit and its time:
# --build-arg AUDIOVAULT_COMMIT="$(git rev-parse --short=12 HEAD)"
# --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# One layer has all sources, so that this file does not depend on the manifests. For frequent builds use cargo, which
# keeps compiled dependencies. The image has gcc, and aws-lc and SQLite need no other compiler; jemalloc needs make.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY . .
ARG AUDIOVAULT_COMMIT
ARG SOURCE_DATE_EPOCH
RUN cargo build --profile dist --locked --package audiovault-relay

# The certificates are for alerts, which are sent over HTTPS.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 audiovault \
 && useradd --system --uid 10001 --gid audiovault --home-dir /var/lib/audiovault --shell /usr/sbin/nologin audiovault \
 && install --directory --owner=audiovault --group=audiovault --mode=0700 /var/lib/audiovault
COPY --from=build /src/target/dist/audiovault-relay /usr/local/bin/

USER 10001:10001
WORKDIR /var/lib/audiovault
VOLUME /var/lib/audiovault
ENV AUDIOVAULT_RELAY_DATABASE=sqlite:/var/lib/audiovault/relay.db
# Plain HTTP for a proxy in front. The admin listener stays on the loopback address of the container, where the
# health check reaches it.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["audiovault-relay", "health"]
ENTRYPOINT ["audiovault-relay"]
CMD ["serve"]
