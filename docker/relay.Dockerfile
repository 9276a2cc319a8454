# Built from the top of the repository: docker build -f docker/relay.Dockerfile -t audiovault-relay .
#
# git is not among what the image is built from. --build-arg AUDIOVAULT_COMMIT="$(git rev-parse --short=12 HEAD)" and
# --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" tell the program which commit it is, and of when.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# One layer with everything, so that nothing has to follow the manifests: who builds often builds with cargo, where
# dependencies stay compiled. The image brings gcc, which is all that aws-lc and SQLite need.
COPY . .
ARG AUDIOVAULT_COMMIT
ARG SOURCE_DATE_EPOCH
RUN cargo build --profile dist --locked --package audiovault-relay

# Alerts go out by HTTPS: the certificates are for them.
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
# health check asks it.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["audiovault-relay", "health"]
ENTRYPOINT ["audiovault-relay"]
CMD ["serve"]
