# Built from the top of the repository: docker build -f docker/agent.Dockerfile -t audiovault-agent .
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
RUN cargo build --profile dist --locked --package audiovault-agent

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 audiovault \
 && useradd --system --uid 10001 --gid audiovault --home-dir /var/lib/audiovault --shell /usr/sbin/nologin audiovault \
 && install --directory --owner=audiovault --group=audiovault --mode=0700 /var/lib/audiovault
COPY --from=build /src/target/dist/audiovault-agent /usr/local/bin/

# Recordings often belong to the PBX alone: run with its user and group then, and with a state file that they can
# write.
USER 10001:10001
WORKDIR /var/lib/audiovault
ENV AUDIOVAULT_AGENT_STATE_FILE=/var/lib/audiovault/agent.state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["audiovault-agent", "health"]
ENTRYPOINT ["audiovault-agent"]
CMD ["tunnel"]
