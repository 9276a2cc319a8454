//! Operators of a relay: in a browser without scripts, and as programs with an API token.

use reqwest::{Client, Method, RequestBuilder, Response, header, redirect::Policy};
use serde_json::Value;

use crate::{browser::Browser, relay::Relay, secrets};

/// The password of all users in the tests. It is strong enough for all rules.
pub const PASSWORD: &str = "correct horse battery staple";

/// The part of a browser that handles forms and cookies. It follows no redirects.
#[derive(Debug, Clone)]
pub struct Operator {
    client: Client,
    url: String,
    /// The session cookie as `name=value`; `None` without a login.
    pub cookie: Option<String>,
}

/// A program that uses the API.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    url: String,
    token: String,
}

/// Every request has a connection of its own. After the relay has refused a body, it closes the connection, and
/// another request must not be on it then.
fn client() -> Client {
    let builder = Client::builder().redirect(Policy::none()).pool_max_idle_per_host(0);
    builder.build().expect("a client")
}

/// The routes of the pages behind the login, taken from the program's source, so that a route that is added later is
/// tested too.
pub fn page_routes() -> Vec<&'static str> {
    let source = include_str!("../../relay/src/admin/pages/mod.rs");
    let routes = source.split("pub fn routes()").nth(1).and_then(|rest| rest.split("\n}").next());
    let routes = routes.expect("the routes").split(".route(").skip(1);
    routes.filter_map(|route| route.split('"').nth(1)).collect()
}

impl Operator {
    /// An operator who is not logged in.
    pub fn logged_out(relay: &Relay) -> Self {
        Self { client: client(), url: relay.admin_url(), cookie: None }
    }

    /// An operator who has logged in with [`PASSWORD`].
    pub async fn log_in(relay: &Relay, name: &str) -> Self {
        let visitor = Self::logged_out(relay);
        let response = visitor.try_log_in(name, PASSWORD).await;
        assert_eq!(response.status(), 303, "{name} logs in: {}", response.text().await.unwrap_or_default());
        let operator = visitor.entered(&response);
        assert!(operator.cookie.is_some(), "a session comes with the login");
        operator
    }

    /// The same browser with the session of a response.
    pub fn entered(&self, response: &Response) -> Self {
        let cookie = session_cookie(response);
        cookie.iter().filter_map(|cookie| cookie.split('=').next_back()).for_each(secrets::remember);
        Self { cookie, ..self.clone() }
    }

    /// Sends the login form. Returns the response, whether or not the login succeeded.
    pub async fn try_log_in(&self, name: &str, password: &str) -> Response {
        secrets::remember(password);
        let form = [("name", name), ("password", password)];
        answered(self.request(Method::POST, "/login").form(&form)).await
    }

    /// A request as the relay's own pages send it from this browser.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let safe = method.is_safe();
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        };
        if safe { request } else { request.header(header::ORIGIN, &self.url) }
    }

    /// Opens a page.
    pub async fn get(&self, path: &str) -> Response {
        answered(self.request(Method::GET, path)).await
    }

    /// Opens a page, which must exist. Returns its text.
    pub async fn page(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.expect("text")
    }

    /// The token for the forms of this session.
    pub async fn csrf(&self) -> String {
        let page = self.page("/").await;
        let token = page.split("data-csrf=\"").nth(1).and_then(|rest| rest.split('"').next());
        token.filter(|token| !token.is_empty()).expect("a token in the page").to_owned()
    }

    /// Sends a form of one of the pages.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let csrf = self.csrf().await;
        let form: Vec<_> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        answered(self.request(Method::POST, path).form(&form)).await
    }

    /// Whether the session is still valid.
    pub async fn is_logged_in(&self) -> bool {
        self.get("/").await.status() == 200
    }
}

impl Api {
    /// A program with a token.
    pub fn new(relay: &Relay, token: &str) -> Self {
        Self { client: client(), url: relay.admin_url(), token: token.to_owned() }
    }

    /// A program with all rights.
    pub async fn admin(relay: &Relay) -> Self {
        Self::new(relay, relay.token().await)
    }

    /// A program with a new token that has these rights. The command line makes the token.
    pub async fn with(relay: &Relay, name: &str, rights: &[&str]) -> Self {
        let made = relay.command("token", &[&["add", name], rights].concat()).await;
        Self::new(relay, made["token"].as_str().expect("a token"))
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Sends a request. Returns status and JSON (or null) of the response.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let request = self.request(method, path);
        let response = answered(if let Some(body) = body { request.json(body) } else { request }).await;
        let status = response.status().as_u16();
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Sends a GET request. Returns status and JSON of the response.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    /// Sends a POST request. Returns status and JSON of the response.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }
}

impl Browser {
    /// Logs in with [`PASSWORD`] on the login page.
    pub async fn log_in(&self, relay: &Relay, name: &str) {
        self.open(&relay.admin_url()).await;
        self.fill("#name", name).await;
        self.fill("#password", PASSWORD).await;
        self.click("main button[type=submit]").await;
        self.find("details.menu").await;
    }
}

impl Relay {
    /// Adds a user with [`PASSWORD`] by the command line.
    pub async fn add_user(&self, name: &str, rights: &[&str]) -> Value {
        let file = tempfile::NamedTempFile::new().expect("a file");
        secrets::remember(PASSWORD);
        std::fs::write(file.path(), PASSWORD).expect("a file");
        let path = file.path().to_str().expect("a path").to_owned();
        self.command("user", &[&["add", name, "--password-file", &path], rights].concat()).await
    }
}

/// The session cookie of a response, as the browser sends it back.
pub fn session_cookie(response: &Response) -> Option<String> {
    let cookies = response.headers().get_all(header::SET_COOKIE).iter();
    let mut cookies = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    cookies.find(|cookie| cookie.contains("audiovault=") && !cookie.ends_with('=')).map(str::to_owned)
}

async fn answered(request: RequestBuilder) -> Response {
    request.send().await.expect("the admin listener answers")
}
