//! The way in when there is no user yet: a link that works once.

use std::time::Duration;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::{
    model::secret::Secret,
    store::{Store, StoreError},
};

/// How long the link may be used: until somebody who has just started a relay has read its log.
pub const SETUP_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes a new link if there is no user, in place of an earlier one. `admin_url` is where the admin listener is
/// reached, without a slash at its end.
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
