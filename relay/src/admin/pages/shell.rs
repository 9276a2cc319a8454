//! The shell of every page: header, navigation, texts, and the user who is logged in; and what a page knows about the
//! client, whether it is logged in or not.

use std::net::IpAddr;

use askama::Template;
use audiovault_common::http_error::HttpError;
use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use jiff::Timestamp;

use super::{Language, assets};
use crate::{
    admin::{SignedIn, auth::Principal, errors},
    model::account::Permission,
    monitoring::board::SiteState,
    net::client::{ClientAddress, Scheme},
};

/// The shell of a page for a user who is logged in. As an extractor it refuses all other requests.
#[derive(Debug, Clone)]
pub struct Shell {
    visitor: Visitor,
    signed_in: Option<SignedIn>,
}

impl<S: Send + Sync> FromRequestParts<S> for Shell {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let visitor = parts.extensions.get::<Visitor>().cloned().ok_or_else(errors::internal)?;
        let signed_in = parts.extensions.get::<SignedIn>().cloned().ok_or_else(errors::unauthorized)?;
        Ok(Self { visitor, signed_in: Some(signed_in) })
    }
}

impl Shell {
    /// The shell of a page that needs no login.
    pub fn public(visitor: Visitor) -> Self {
        Self { visitor, signed_in: None }
    }

    /// The shell of a page that is shown with or without a login.
    pub fn with_or_without_login(visitor: Visitor, signed_in: Option<SignedIn>) -> Self {
        Self { visitor, signed_in }
    }

    /// What is known about the client of this page.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// The principal that is logged in; `None` on public pages.
    pub fn user(&self) -> Option<&Principal> {
        self.signed_in.as_ref().map(|signed_in| &signed_in.principal)
    }

    /// The principal that is logged in, for handlers behind the login check.
    ///
    /// # Errors
    /// 401 on public pages.
    pub fn principal(&self) -> Result<&Principal, HttpError> {
        self.user().ok_or_else(errors::unauthorized)
    }

    /// True if a principal is logged in whose role allows this.
    pub fn may(&self, permission: Permission) -> bool {
        self.user().is_some_and(|user| user.may(permission))
    }

    /// Whether to show the navigation to users and tokens.
    pub fn manages_users(&self) -> bool {
        self.may(Permission::ManageUsers)
    }

    /// The token for the forms of this page.
    pub fn csrf(&self) -> &str {
        self.signed_in.as_ref().map_or("", |signed_in| signed_in.csrf.as_str())
    }

    /// The language of the page.
    pub fn language(&self) -> Language {
        self.visitor.language
    }

    /// All languages, each with the address of this page in that language.
    pub fn languages(&self) -> Vec<(Language, String)> {
        let address = |language: Language| self.visitor.with_parameter("lang", language.tag());
        Language::ALL.into_iter().map(|language| (language, address(language))).collect()
    }

    /// The theme of the page.
    pub fn theme(&self) -> Theme {
        self.visitor.theme
    }

    /// All themes, each with the text key of its name and the address of this page in that theme.
    pub fn themes(&self) -> Vec<(Theme, String, String)> {
        let address = |theme: Theme| self.visitor.with_parameter("theme", theme.as_str());
        let key = |theme: Theme| format!("theme-{}", theme.as_str());
        Theme::ALL.into_iter().map(|theme| (theme, key(theme), address(theme))).collect()
    }

    /// Whether the page belongs to this part of the navigation. `/` is the board and the pages of sites.
    pub fn is_in(&self, part: &str) -> bool {
        let path = self.visitor.uri.path();
        if part == "/" {
            return path == "/" || path.starts_with("/sites");
        }
        path == part || path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The message about the change that led to this page.
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

    /// The name of a state.
    pub fn state(&self, state: &SiteState) -> String {
        self.t(&format!("state-{}", state.as_str()))
    }

    /// Milliseconds; an empty text for `None`.
    pub fn milliseconds(&self, ms: &Option<f64>) -> String {
        ms.map(|ms| format!("{}\u{a0}ms", self.language().decimal(ms))).unwrap_or_default()
    }

    /// A time as HTML: in UTC, until a script converts it to the browser's time zone.
    pub fn time(&self, time: &Timestamp) -> String {
        // Neither part contains a character that has to be escaped in HTML.
        format!("<time datetime=\"{time:.0}\">{}</time>", self.language().moment(*time))
    }

    /// A whole number.
    pub fn number(&self, number: &u64) -> String {
        self.language().number(*number)
    }

    /// A size in bytes.
    pub fn size(&self, bytes: &u64) -> String {
        self.language().size(*bytes)
    }

    /// A duration.
    pub fn duration(&self, seconds: &u64) -> String {
        self.language().duration(*seconds)
    }

    /// The address of an asset. It changes with the content.
    pub fn asset(&self, name: &str) -> String {
        assets::address(name)
    }

    /// The version of the relay.
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// The page that shows an error.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// The shell of the page.
    pub shell: Shell,
    /// The status of the response.
    pub status: StatusCode,
    /// What happened and what to do about it.
    pub detail: String,
    /// The id of the request, under which the log has more.
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

const LANGUAGE_COOKIE: &str = "audiovault-language";
const THEME_COOKIE: &str = "audiovault-theme";

/// The colours of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the browser is set.
    #[default]
    Auto,
    /// Dark text on a light background.
    Light,
    /// Light text on a dark background.
    Dark,
}

impl Theme {
    /// All themes, in the order in which the switch shows them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// The name of the theme in addresses, cookies and style sheets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == text)
    }
}

/// What is known about the client. Every request to the admin listener has it as an extension.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The language of the response.
    pub language: Language,
    /// The theme of the response.
    pub theme: Theme,
    /// The requested address.
    pub uri: Uri,
    /// The client's IP address.
    pub address: IpAddr,
    /// The scheme of the request.
    pub scheme: Scheme,
}

impl Visitor {
    /// Collects what the request and the listener show about the client.
    pub fn of(request: &Request, peer: IpAddr) -> Self {
        let extensions = request.extensions();
        let jar = CookieJar::from_headers(request.headers());
        let cookie = |name: &str| jar.get(name).map(|cookie| cookie.value().to_owned());
        Self {
            language: cookie(LANGUAGE_COOKIE)
                .and_then(|tag| Language::of_tag(&tag))
                .unwrap_or_else(|| preferred(request.headers())),
            theme: cookie(THEME_COOKIE).and_then(|text| Theme::of(&text)).unwrap_or_default(),
            uri: request.uri().clone(),
            address: extensions.get::<ClientAddress>().map_or(peer, |client| client.0),
            scheme: extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http),
        }
    }

    /// The address of this page with a new value for one parameter.
    pub fn with_parameter(&self, name: &str, value: &str) -> String {
        with_parameters(&self.uri, |given| given == name, Some((name, value)))
    }

    /// The value of one parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Stores a switch of language or theme from the address (`?lang=es`, `?theme=dark`) in a cookie, and redirects to the
/// address without it. The switches are links, so they work without scripts and before the login.
pub async fn preferences(request: Request, next: Next) -> Response {
    let switched = match request.extensions().get::<Visitor>() {
        Some(visitor) if request.method() == Method::GET => switches(visitor),
        _ => Vec::new(),
    };
    if switched.is_empty() {
        return next.run(request).await;
    }
    let bare = with_parameters(request.uri(), |name| matches!(name, "lang" | "theme"), None);
    let mut response = Redirect::to(&bare).into_response();
    for cookie in switched {
        if let Ok(value) = cookie.to_string().parse() {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

fn switches(visitor: &Visitor) -> Vec<Cookie<'static>> {
    let language = visitor.parameter("lang").and_then(|tag| Language::of_tag(&tag));
    let theme = visitor.parameter("theme").and_then(|text| Theme::of(&text));
    let cookie = |name: &'static str, value: &'static str| {
        Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(visitor.scheme == Scheme::Https)
            .permanent()
            .build()
    };
    let language = language.map(|language| cookie(LANGUAGE_COOKIE, language.tag()));
    language.into_iter().chain(theme.map(|theme| cookie(THEME_COOKIE, theme.as_str()))).collect()
}

fn preferred(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    accepted.map(Language::preferred).unwrap_or_default()
}

fn with_parameters(uri: &Uri, drop: impl Fn(&str) -> bool, add: Option<(&str, &str)>) -> String {
    let query = uri.query().unwrap_or_default();
    let mut kept = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !drop(&name) {
            kept.append_pair(&name, &value);
        }
    }
    if let Some((name, value)) = add {
        kept.append_pair(name, value);
    }
    let query = kept.finish();
    // With more than one slash at the beginning, browsers would read the path as another host.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_keeps_the_rest_of_the_address_and_never_leaves_the_host() {
        let changed = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            with_parameters(&uri, |name| name == "lang", Some(("lang", "es")))
        };
        assert_eq!(changed("/audit?site=acme&lang=en&q=a%26b"), "/audit?site=acme&q=a%26b&lang=es");
        assert_eq!(changed("/"), "/?lang=es");
        assert_eq!(changed("//evil.example/x"), "/evil.example/x?lang=es");
    }
}
