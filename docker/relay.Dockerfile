# Built from the top of the repository: docker build -f docker/relay.Dockerfile -t audiovault-relay .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies, with stand-ins for our own sources: a layer that only a changed manifest makes anew. The image
# brings gcc, which is all that aws-lc and SQLite need.
COPY Cargo.toml Cargo.lock ./
COPY protocol/Cargo.toml protocol/
COPY agent/Cargo.toml agent/
COPY relay/Cargo.toml relay/
COPY tests/Cargo.toml tests/
COPY docker/stub-sources.sh docker/
RUN ./docker/stub-sources.sh \
 && cargo build --release --locked --package audiovault-relay

# The sources. Cargo goes by time stamps, and those of a checkout may be older than the stand-ins.
COPY protocol protocol
COPY agent agent
COPY relay relay
RUN find protocol agent relay -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package audiovault-relay

# Alerts go out by HTTPS: the certificates are for them.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 audiovault \
 && useradd --system --uid 10001 --gid audiovault --home-dir /var/lib/audiovault --shell /usr/sbin/nologin audiovault \
 && install --directory --owner=audiovault --group=audiovault --mode=0700 /var/lib/audiovault
COPY --from=build /src/target/release/audiovault-relay /usr/local/bin/

USER 10001:10001
WORKDIR /var/lib/audiovault
VOLUME /var/lib/audiovault
ENV AUDIOVAULT_RELAY_DATABASE=sqlite:/var/lib/audiovault/relay.db
# Plain HTTP for a proxy in front. The admin listener stays on the loopback address of the container, where the
# health check asks it.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["audiovault-relay", "health"]
ENTRYPOINT ["audiovault-relay"]
CMD ["serve"]
