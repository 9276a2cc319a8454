//! Makes enrolment codes and trades them for keys, for the command line, the pages, the API and the public listener.
//! Codes and keys are made here and stored nowhere; the store has only their digests.

use std::{fmt, net::IpAddr};

use audiovault_protocol::identity::{
    enrolment::{CODE_LIFETIME, EnrolmentCode},
    site::{KeyDigest, SITE_SECRET_LEN, SiteId, SiteKey},
};
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    model::operator_events::{Actor, ActorKind},
    net::public_url::PublicUrl,
    sites::queuemetrics,
    store::{NewCode, Store, StoreError, Trade},
};

/// An enrolment code that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedCode {
    /// Name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The code, for the person who installs the site's agent.
    pub code: String,
    /// When the code expires.
    pub expires: Timestamp,
    /// The command that installs the agent with this code.
    pub install_command: String,
}

// Does not show the code.
impl fmt::Debug for AddedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedCode").field("site", &self.site).finish_non_exhaustive()
    }
}

/// Makes a code for a site. It replaces the site's unused codes.
///
/// # Errors
/// As [`Store::add_code`].
pub async fn add_code(
    store: &Store,
    actor: &Actor,
    url: &PublicUrl,
    site: &SiteId,
) -> Result<AddedCode, StoreError> {
    let code = EnrolmentCode::from_random(rand::random());
    let created = Timestamp::now();
    let expires = created + CODE_LIFETIME;
    // Only users and tokens have names here; the page itself says if a code was made on the command line.
    let created_by = actor.name.parse().ok().filter(|_| actor.kind != ActorKind::CommandLine);
    let new = NewCode { digest: code.digest(), created_by, created, expires };
    store.add_code(actor, site, &new).await?;
    let install_command = queuemetrics::agent_install(url, &code);
    Ok(AddedCode { site: site.clone(), code: code.to_string(), expires, install_command })
}

/// Uses up a code and returns a new key of its site.
///
/// # Errors
/// As [`Store::trade_code`].
pub async fn trade_code(store: &Store, code: &EnrolmentCode, from: IpAddr) -> Result<SiteKey, StoreError> {
    let secret: Zeroizing<[u8; SITE_SECRET_LEN]> = Zeroizing::new(rand::random());
    let key = KeyDigest::of_secret(&secret);
    let trade = Trade { digest: code.digest(), key, from, now: Timestamp::now() };
    let site = store.trade_code(&Actor::at(ActorKind::Agent, "enrolment", from), &trade).await?;
    Ok(SiteKey::from_secret(site, *secret))
}
