//! Helpers for this crate's tests: recordings on disk.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use audiovault_protocol::{identity::site::SiteId, recording::name::RecordedNames};

use crate::{
    auth::{Access, secret::Secret},
    http::{ServiceSettings, dialect::Dialect, links::LinkSettings},
    limits::Schedule,
    storage::{StorageSettings, pattern::Pattern},
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

/// The 44 bytes before 8 kHz, 16-bit mono sound. They say that `sound` bytes follow.
pub(crate) fn wav_header(sound: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(44);
    head.extend_from_slice(b"RIFF");
    head.extend_from_slice(&sound.saturating_add(36).to_le_bytes());
    head.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend_from_slice(&8000u32.to_le_bytes());
    head.extend_from_slice(&16_000u32.to_le_bytes());
    head.extend_from_slice(b"\x02\0\x10\0data");
    head.extend_from_slice(&sound.to_le_bytes());
    head
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

/// A WAV file at 8 kHz of another codec, with the `fact` chunk that such files have.
pub(crate) fn coded_wav(tag: u16, channels: u16, block: u16, sound: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0".to_vec();
    file.extend_from_slice(&tag.to_le_bytes());
    file.extend_from_slice(&channels.to_le_bytes());
    file.extend_from_slice(&8000u32.to_le_bytes());
    let rate = if tag == 0x31 { 1_625 } else { 8_000 * u32::from(block) };
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&block.to_le_bytes());
    file.extend_from_slice(b"\0\0\0\0fact\x04\0\0\0\0\0\0\0data");
    file.extend_from_slice(&u32::try_from(sound.len()).unwrap().to_le_bytes());
    file.extend_from_slice(sound);
    let len = u32::try_from(file.len() - 8).unwrap();
    file[4..8].copy_from_slice(&len.to_le_bytes());
    file
}
