//! Helpers for this crate's tests: recordings on disk.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use audiovault_agent_core::{pattern::Pattern, secret::Secret, testing::wav_header};
use audiovault_protocol::{identity::site::SiteId, recording::name::RecordedNames};

use crate::{
    auth::Access,
    http::{ServiceSettings, dialect::Dialect, links::LinkSettings},
    limits::Schedule,
    storage::StorageSettings,
};

/// The settings of a service with one root, which clients with the token `master-token` may search.
pub(crate) fn settings(root: Pattern) -> ServiceSettings {
    let site = SiteId::parse("acme-madrid").unwrap();
    ServiceSettings {
        storage: StorageSettings::new(vec![root]),
        access: Access::new(Some(&Secret::new("master-token")), &[], Some(site.as_str())).unwrap(),
        links: LinkSettings::for_this_run(site),
        recorded_names: RecordedNames::Masked,
        max_rate: Schedule::default(),
        max_streams: 256,
        audit_log: None,
        deny: None,
        cdr: None,
        dialect: Dialect::default(),
        verbose_search: false,
    }
}

/// A WAV file of this many seconds whose sound differs from byte to byte.
pub(crate) fn wav(seconds: u32) -> Vec<u8> {
    let mut bytes = wav_header(seconds * 16_000);
    bytes.extend((0..seconds * 16_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    bytes
}

/// Writes a file that is an hour old, and creates its directories.
pub(crate) fn put(path: impl AsRef<Path>, content: &[u8]) {
    put_aged(path, content, Duration::from_secs(3600));
}

/// Writes a file of the given age, and creates its directories.
pub(crate) fn put_aged(path: impl AsRef<Path>, content: &[u8], age: Duration) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    set_age(path, age);
}

/// Makes a file look as if it had been written `age` ago.
pub(crate) fn set_age(path: impl AsRef<Path>, age: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}
