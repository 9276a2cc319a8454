//! The name and version of this program.

use std::sync::LazyLock;

use audiovault_protocol::about::About;
use jiff::Timestamp;

/// Name, version, commit and time of this build, from the build script.
pub static ABOUT: LazyLock<About> = LazyLock::new(|| {
    let built =
        env!("AUDIOVAULT_BUILD_TIME").parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let built = built.map(|built| built.to_string());
    About::new("audiovault-agent", env!("CARGO_PKG_VERSION"), env!("AUDIOVAULT_BUILD_COMMIT"), built)
});

/// What `--version` prints after the name.
pub(crate) fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| ABOUT.to_string());
    &TEXT
}
