//! Makes enrolment codes, and hands out a key for one: what the command line, the pages and the API, and the public
//! listener do. Codes and keys are made here and kept nowhere; the store has their digests.

use std::{fmt, net::IpAddr};

use audiovault_protocol::{
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

/// A code that was made. Its `Debug` does not tell it.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedCode {
    /// The site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The code, for whoever installs the site's agent.
    pub code: String,
    /// When it ends.
    pub expires: Timestamp,
    /// The command that installs the agent with it.
    pub install_command: String,
}

impl fmt::Debug for AddedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedCode").field("site", &self.site).finish_non_exhaustive()
    }
}

/// Makes a code for a site, in the place of those that were not used yet.
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
    // Users and tokens have names by their nature; the page says where the command line made a code.
    let created_by = actor.name.parse().ok().filter(|_| actor.kind != ActorKind::CommandLine);
    let new = NewCode { digest: code.digest(), created_by, created, expires };
    store.add_code(actor, site, &new).await?;
    let install_command = queuemetrics::agent_install(url, &code);
    Ok(AddedCode { site: site.clone(), code: code.to_string(), expires, install_command })
}

/// Uses a code up for a new key of its site.
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
