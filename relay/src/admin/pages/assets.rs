//! Style sheets, scripts and pictures, compiled into the program.

use std::sync::LazyLock;

use audiovault_common::http_error::HttpError;
use axum::{
    body::Body,
    extract::{Path, Query},
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::admin::{Compressible, errors};

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($name:literal $kind:ident),+ $(,)?) => {
        [$(Asset { name: $name, kind: $kind, content: include_bytes!(concat!("../../../assets/", $name)) }),+]
    };
}

/// All files that pages load. Scripts are modules and import each other by name.
static ASSETS: &[Asset] = &assets!["app.css" CSS, "app.js" JS, "board.js" JS, "copy.js" JS, "press.js" JS, "site.js" JS, "time.js" JS, "icon.svg" SVG];

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

/// The hashes of [`ASSETS`], in the same order. 64 bits are enough to distinguish two releases of a file.
static HASHES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let hash = |asset: &Asset| {
        let digest = Sha256::digest(asset.content);
        HEXLOWER.encode(digest.get(..8).unwrap_or_default())
    };
    ASSETS.iter().map(hash).collect()
});

/// The release of the file that the request asks for, as its hash.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    v: Option<String>,
}

fn find(name: &str) -> Option<(&'static Asset, &'static str)> {
    let mut both = ASSETS.iter().zip(HASHES.iter());
    both.find(|(asset, _)| asset.name == name).map(|(asset, hash)| (asset, hash.as_str()))
}

/// The address from which a page loads the asset.
pub(super) fn address(name: &str) -> String {
    match find(name) {
        Some((_, hash)) => format!("/assets/{name}?v={hash}"),
        None => format!("/assets/{name}"),
    }
}

/// `GET /assets/{name}`. If the address has the hash of the current content, browsers may cache the file for a year;
/// otherwise they have to revalidate it.
pub(super) async fn serve(
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let (asset, hash) = find(&name).ok_or_else(errors::not_found)?;
    // A weak tag, because the same file is sent compressed and uncompressed.
    let tag = format!("W/\"{hash}\"");
    let lasting = wanted.v.as_deref() == Some(hash);
    let caching = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
        tags.to_str()
            .is_ok_and(|tags| tags.split(',').any(|known| known.trim().trim_matches(['W', '/', '"']) == hash))
    });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.kind)], Body::from(asset.content)).into_response()
    };
    response.extensions_mut().insert(Compressible);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
