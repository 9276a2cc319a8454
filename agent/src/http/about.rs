//! The name and version of this program.

use std::sync::LazyLock;

use audiovault_common::about::About;

/// Name, version, commit and time of this build, from the build script.
pub static ABOUT: LazyLock<About> = LazyLock::new(|| {
    About::new(
        "audiovault-agent",
        env!("CARGO_PKG_VERSION"),
        env!("AUDIOVAULT_BUILD_COMMIT"),
        env!("AUDIOVAULT_BUILD_TIME"),
        env!("AUDIOVAULT_OPT_LEVEL"),
    )
});

/// What `--version` prints after the name.
pub(crate) fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| ABOUT.to_string());
    &TEXT
}
