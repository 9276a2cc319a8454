//! The form in which a recording is delivered: unchanged, or decoded for a browser.

use std::{ffi::OsStr, sync::Arc, time::SystemTime};

use audiovault_protocol::recording::media::content_type;

use super::body::Source;
use crate::{
    audio::{
        layout::{Layout, delivered_extension},
        snapshots::{Content, Snapshots},
    },
    http::decoding::Decoding,
    storage::{media::decoded_name, open::OpenRecording},
};

/// Distinguishes the entity tag of the decoded form from the file's. The number goes up when the same file begins to
/// decode into other bytes.
const DECODED: &str = "-pcm1\"";

/// One form of an open recording.
#[derive(Debug)]
pub(super) struct Form {
    /// Size in bytes.
    pub(super) size: u64,
    /// Bytes per second of sound, if known.
    pub(super) bytes_per_second: Option<u32>,
    decoded: Option<Layout>,
}

impl Form {
    /// The form that browsers can play, or the file itself if `original` is true.
    pub(super) fn of(open: &OpenRecording, extension: &str, original: bool) -> Self {
        let told = open.content_info(extension);
        let decoded = told.decoded.filter(|_| !original);
        let bytes_per_second = match (decoded, told.decoded) {
            (Some(layout), _) => Some(layout.bytes_per_second()),
            (None, Some(layout)) => Some(layout.source_bytes_per_second()),
            (None, None) => told.wav.map(|header| header.bytes_per_second),
        };
        Self { size: decoded.map_or(open.size, |layout| layout.size()), bytes_per_second, decoded }
    }

    /// A strong validator: the decoded bytes stay the same as long as the file does.
    pub(super) fn etag(&self, open: &OpenRecording, now: SystemTime) -> Option<String> {
        let etag = open.etag(now)?;
        Some(if self.decoded.is_some() { etag.trim_end_matches('"').to_owned() + DECODED } else { etag })
    }

    /// The media type for the file's extension, which is in lower case.
    pub(super) fn content_type(&self, extension: &str) -> String {
        content_type(if self.decoded.is_some() { delivered_extension(extension) } else { extension })
    }

    /// The file name under which the recording is delivered.
    pub(super) fn name(&self, file_name: &OsStr) -> String {
        let decoded = self.decoded.map(|_| decoded_name(file_name));
        decoded.as_deref().unwrap_or(file_name).to_string_lossy().into_owned()
    }

    /// Whether the file itself is delivered.
    pub(super) fn is_original(&self) -> bool {
        self.decoded.is_none()
    }

    /// The source of its bytes, starting at `first`.
    pub(super) fn source(&self, open: OpenRecording, first: u64, kept: &Kept) -> Source {
        let Some(layout) = self.decoded else { return Source::File(open.file, first) };
        // A file that may change within one tick of its clock cannot be told apart from its earlier content.
        let settled = layout.codec().has_memory() && open.is_settled(SystemTime::now());
        let states = settled.then(|| {
            let content = Content {
                driver: kept.driver,
                path: kept.path.clone(),
                size: open.size,
                modified: open.modified,
            };
            kept.snapshots.of(content, &layout)
        });
        Source::Decoding(Box::new(Decoding::new(open.file, layout, first, states)))
    }
}

/// Saved states of earlier decoding, and where the recording lies.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) driver: usize,
    pub(super) path: std::path::PathBuf,
}
