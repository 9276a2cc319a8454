//! What every page stands in: header, navigation, words, and who looks at it.

use askama::Template;
use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use jiff::Timestamp;

use super::{Language, Theme, Visitor, assets};
use crate::{
    admin::{Refused, SignedIn, auth::Principal},
    model::rights::Permission,
    monitoring::board::SiteState,
};

/// The frame of a page for somebody who is logged in. As an extractor it refuses everybody else.
#[derive(Debug, Clone)]
pub struct Shell {
    visitor: Visitor,
    signed_in: Option<SignedIn>,
}

impl<S: Send + Sync> FromRequestParts<S> for Shell {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let visitor = parts.extensions.get::<Visitor>().cloned().ok_or_else(Refused::internal)?;
        let signed_in = parts.extensions.get::<SignedIn>().cloned().ok_or_else(Refused::unauthorized)?;
        Ok(Self { visitor, signed_in: Some(signed_in) })
    }
}

impl Shell {
    /// The frame of a page that anybody may see.
    pub fn public(visitor: Visitor) -> Self {
        Self { visitor, signed_in: None }
    }

    /// The frame of a page for whoever it is.
    pub fn for_anybody(visitor: Visitor, signed_in: Option<SignedIn>) -> Self {
        Self { visitor, signed_in }
    }

    /// Who looks at the page.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Who is logged in; on public pages, nobody.
    pub fn user(&self) -> Option<&Principal> {
        self.signed_in.as_ref().map(|signed_in| &signed_in.principal)
    }

    /// Who is logged in, for handlers behind the gate.
    ///
    /// # Errors
    /// [`Refused::unauthorized`] on public pages.
    pub fn principal(&self) -> Result<&Principal, Refused> {
        self.user().ok_or_else(Refused::unauthorized)
    }

    /// Whether somebody is logged in who may do that.
    pub fn may(&self, permission: Permission) -> bool {
        self.user().is_some_and(|user| user.may(permission))
    }

    /// Whether to show the navigation to users and tokens.
    pub fn manages_users(&self) -> bool {
        self.may(Permission::ManageUsers)
    }

    /// What the forms of this page carry.
    pub fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| signed_in.csrf.as_str())
    }

    /// The language of the page.
    pub fn language(&self) -> Language {
        self.visitor.language
    }

    /// All languages, each with the address of this page in it.
    pub fn languages(&self) -> Vec<(Language, String)> {
        let address = |language: Language| self.visitor.with_parameter("lang", language.tag());
        Language::ALL.into_iter().map(|language| (language, address(language))).collect()
    }

    /// The colours of the page.
    pub fn theme(&self) -> Theme {
        self.visitor.theme
    }

    /// All themes, each with the key of its name and the address of this page in it.
    pub fn themes(&self) -> Vec<(Theme, String, String)> {
        let address = |theme: Theme| self.visitor.with_parameter("theme", theme.as_str());
        let key = |theme: Theme| format!("theme-{}", theme.as_str());
        Theme::ALL.into_iter().map(|theme| (theme, key(theme), address(theme))).collect()
    }

    /// Whether the page belongs to a part of the navigation; `/` stands for the board and the pages of sites.
    pub fn is_in(&self, part: &str) -> bool {
        let path = self.visitor.uri.path();
        if part == "/" {
            return path == "/" || path.starts_with("/sites");
        }
        path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'))
    }

    /// What was done before this page, in words.
    pub fn flash(&self) -> Option<String> {
        let key = format!("done-{}", self.visitor.parameter("done")?);
        self.language().has(&key).then(|| self.t(&key))
    }

    /// The text of a key.
    pub fn t(&self, key: &str) -> String {
        self.language().text(key, &[])
    }

    /// The text of a key with one argument.
    pub fn t1(&self, key: &str, name: &str, value: &impl ToString) -> String {
        self.language().text(key, &[(name, &value.to_string())])
    }

    /// The text of a key with two arguments.
    pub fn t2(&self, key: &str, first: (&str, &str), second: (&str, &str)) -> String {
        self.language().text(key, &[first, second])
    }

    /// A state in words.
    pub fn state(&self, state: &SiteState) -> String {
        self.t(&format!("state-{}", state.as_str()))
    }

    /// Milliseconds, where there are any.
    pub fn milliseconds(&self, ms: &Option<f64>) -> String {
        ms.map(|ms| format!("{}\u{a0}ms", self.language().decimal(ms))).unwrap_or_default()
    }

    /// A moment as HTML: in UTC, until a script puts it into the reader's zone.
    pub fn time(&self, time: &Timestamp) -> String {
        // Neither holds a character that HTML minds.
        format!("<time datetime=\"{time:.0}\">{}</time>", self.language().moment(*time))
    }

    /// A whole number.
    pub fn number(&self, number: &u64) -> String {
        self.language().number(*number)
    }

    /// Octets.
    pub fn size(&self, octets: &u64) -> String {
        self.language().size(*octets)
    }

    /// A span of time.
    pub fn duration(&self, seconds: &u64) -> String {
        self.language().duration(*seconds)
    }

    /// The address of an asset, which changes with its content.
    pub fn asset(&self, name: &str) -> String {
        assets::address(name)
    }

    /// The version of the relay.
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A page that says why there is no other one.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// The frame.
    pub shell: Shell,
    /// What happened.
    pub status: StatusCode,
    /// What to do about it.
    pub detail: String,
    /// Where the log tells more.
    pub request_id: String,
}

impl ErrorPage {
    fn title(&self) -> String {
        let key = match self.status {
            StatusCode::NOT_FOUND => "error-not-found",
            StatusCode::FORBIDDEN => "error-forbidden",
            StatusCode::TOO_MANY_REQUESTS => "error-busy",
            status if status.is_server_error() => "error-internal",
            _ => "error-request",
        };
        self.shell.t(key)
    }
}
