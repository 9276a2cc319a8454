# Built from the top of the repository: docker build -f docker/agent.Dockerfile -t audiovault-agent .

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
 && cargo build --release --locked --package audiovault-agent

# The sources. Cargo goes by time stamps, and those of a checkout may be older than the stand-ins.
COPY protocol protocol
COPY agent agent
COPY relay relay
RUN find protocol agent relay -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package audiovault-agent

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 audiovault \
 && useradd --system --uid 10001 --gid audiovault --home-dir /var/lib/audiovault --shell /usr/sbin/nologin audiovault \
 && install --directory --owner=audiovault --group=audiovault --mode=0700 /var/lib/audiovault
COPY --from=build /src/target/release/audiovault-agent /usr/local/bin/

# Recordings often belong to the PBX alone: run with its user and group then, and with a state file that they can
# write.
USER 10001:10001
WORKDIR /var/lib/audiovault
ENV AUDIOVAULT_STATE_FILE=/var/lib/audiovault/agent.state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["audiovault-agent", "health"]
ENTRYPOINT ["audiovault-agent"]
CMD ["tunnel"]
