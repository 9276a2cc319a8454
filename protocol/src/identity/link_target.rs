//! The target of a signed link, and its encoding inside the seal: two fingerprints of 8 bytes, then path, call id,
//! tenant and user, each after its length in two bytes (big endian).

use std::fmt;

use crate::{
    http::parameters::MAX_VALUE_LEN,
    identity::signed_link::{Fingerprint, LinkError, MAX_PATH_LEN},
};

/// What a link opens, and for whom it was made. It travels encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// Fingerprint of the storage root's pattern (not its position: a reload may reorder roots).
    pub root: Fingerprint,
    /// Fingerprint of the token with which the search was made: when the token is withdrawn, its links no longer work.
    pub search_token: Fingerprint,
    /// Path below the directory that the root opens; file names are bytes, not text.
    pub path: Vec<u8>,
    /// The call that was searched for, for the audit log.
    pub call_id: String,
    /// The tenant for which the search was made; empty if there is none.
    pub tenant: String,
    /// The QueueMetrics user who searched, for the audit log; empty if there is none.
    pub user: String,
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkTarget(…)")
    }
}

pub(crate) fn encode(target: &LinkTarget) -> Result<Vec<u8>, LinkError> {
    let texts = [&target.call_id, &target.tenant, &target.user].map(String::as_bytes);
    let fields = [target.path.as_slice(), texts[0], texts[1], texts[2]];
    let limits = [MAX_PATH_LEN, MAX_VALUE_LEN, MAX_VALUE_LEN, MAX_VALUE_LEN];
    let mut bytes = Vec::with_capacity(16 + fields.iter().map(|field| field.len() + 2).sum::<usize>());
    bytes.extend_from_slice(&target.root);
    bytes.extend_from_slice(&target.search_token);
    for (field, limit) in fields.iter().zip(limits) {
        let len = u16::try_from(field.len()).ok().filter(|_| field.len() <= limit);
        bytes.extend_from_slice(&len.ok_or(LinkError::TooLong)?.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    Ok(bytes)
}

pub(crate) fn decode(mut bytes: &[u8]) -> Option<LinkTarget> {
    let root = bytes.split_off(..8)?.try_into().ok()?;
    let search_token = bytes.split_off(..8)?.try_into().ok()?;
    let mut field = || {
        let len = u16::from_be_bytes(bytes.split_off(..2)?.try_into().ok()?);
        bytes.split_off(..usize::from(len))
    };
    let path = field()?.to_vec();
    let mut text = || String::from_utf8(field()?.to_vec()).ok();
    let call_id = text()?;
    let tenant = text()?;
    let user = text()?;
    bytes.is_empty().then_some(LinkTarget { root, search_token, path, call_id, tenant, user })
}
