//! The types that the database and everything above it share; and the name and
//! version of this program.

pub mod account;
pub mod audit;
pub mod operator_events;
pub mod secret;

use std::sync::LazyLock;

use audiovault_common::about::About;

/// Name, version, commit and time of this build, from the build script.
pub static ABOUT: LazyLock<About> = LazyLock::new(|| {
    About::new(
        "audiovault-relay",
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
