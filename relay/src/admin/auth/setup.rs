//! The set-up link: makes the first user, and works once.

use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{
    model::secret::Secret,
    store::{Store, StoreError},
};

/// How long the link may be used: enough time for an operator who has just started the relay to read its log.
pub const SETUP_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// If there is no user, makes a new link, which replaces an earlier one. `admin_url` is the address of the admin
/// listener, without a slash at its end.
///
/// # Errors
/// [`StoreError`].
pub async fn offer_setup(store: &Store, admin_url: &str) -> Result<Option<Zeroizing<String>>, StoreError> {
    if store.has_users().await? {
        return Ok(None);
    }
    let secret = Secret::mint();
    store.set_setup_link(&secret.digest(), Timestamp::now() + SETUP_LIFE).await?;
    Ok(Some(Zeroizing::new(format!("{admin_url}/setup/{}", secret.reveal().as_str()))))
}
