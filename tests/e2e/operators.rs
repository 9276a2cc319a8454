//! What operators see and may do.

use harness::{
    browser::{Browser, BrowserOptions},
    operator::{Api, Operator, PASSWORD, page_routes},
    relay::Relay,
};
use reqwest::{Method, header};
use serde_json::{Value, json};

#[tokio::test]
async fn the_admin_of_one_site_sees_only_that_site() {
    let relay = Relay::start().await;
    for site in ["acme", "umbrella"] {
        relay.add_site(site, &[]).await;
    }
    for site in ["acme", "umbrella"] {
        relay.wait_for_status(site, |status| !status.is_null()).await;
    }
    relay.add_user("limited", &["--role", "admin", "--site", "acme", "--playback"]).await;
    relay.add_user("root", &["--role", "admin"]).await;
    let limited = Operator::log_in(&relay, "limited").await;
    let page = limited.page("/").await;
    assert!(page.contains("acme") && !page.contains("umbrella"), "{page}");
    assert!(!page.contains("href=\"/users\""), "only an operator with all rights may give rights");
    for path in ["/users", "/users/root", "/tokens", "/api/v1/users", "/api/v1/tokens", "/api/v1/users/root"]
    {
        assert_eq!(limited.get(path).await.status(), 403, "{path}");
    }
    assert_eq!(limited.get("/metrics").await.status(), 404, "the metrics name every site");
    let api = Api::with(&relay, "ci", &["--role", "admin", "--site", "acme"]).await;
    let (_, status) = api.get("/api/v1/sites").await;
    assert_eq!(status["sites"].as_array().unwrap().len(), 1, "{status}");
    let (_, me) = api.get("/api/v1/me").await;
    assert_eq!(
        me,
        json!({"name": "ci", "user": false, "role": "admin", "sites": ["acme"], "playback": false})
    );
    for body in [json!({"name": "mallory", "password": PASSWORD, "role": "admin"})] {
        assert_eq!(api.post("/api/v1/users", &body).await.0, 403);
    }
    relay.site_command(&["remove", "acme"]).await;
    assert_eq!(
        api.get("/api/v1/me").await.1["sites"],
        json!([]),
        "no site is left; this must not mean all sites"
    );
}

#[tokio::test]
async fn everything_outside_of_the_scope_does_not_exist() {
    let relay = Relay::start().await;
    for site in ["acme", "umbrella"] {
        relay.add_site(site, &[]).await;
        relay.wait_for_status(site, |status| !status.is_null()).await;
    }
    relay.add_user("limited", &["--role", "admin", "--site", "acme", "--playback"]).await;
    let limited = Operator::log_in(&relay, "limited").await;
    let filled = |path: &str, site: &str| {
        path.replace("{site}", site).replace("{key}", "0123456789ab").replace("{alias}", "other")
    };
    let pages: Vec<_> = page_routes().into_iter().filter(|path| path.contains("{site}")).collect();
    assert!(!pages.is_empty());
    for path in pages {
        for site in ["umbrella", "nowhere", "No-Site"] {
            let path = filled(path, site);
            let shown = limited.get(&path).await.status();
            assert!(shown == 404 || shown == 405, "{shown} {path}");
            let posted = limited.post(&path, &[("alias", "other")]).await.status();
            assert!(posted == 404 || (posted == 405 && shown == 404), "{posted} {path}");
        }
    }
    assert_eq!(limited.get("/sites/acme").await.status(), 200);
    let api = Api::with(&relay, "ci", &["--role", "admin", "--site", "acme", "--playback"]).await;
    let (_, document) = api.get("/api/openapi.json").await;
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|_| path.contains("{site}")) {
            let method: Method = method.to_uppercase().parse().unwrap();
            let (status, problem) = api.call(method.clone(), &filled(path, "umbrella"), None).await;
            assert_eq!(status, 404, "{method} {path}: {problem}");
            asked += 1;
        }
    }
    assert!(asked > 5, "the document names only {asked} operations on a site");
    assert_eq!(api.get("/api/v1/sites/acme").await.0, 200);
    let still = relay.site_command(&["show", "umbrella"]).await;
    assert!(still["disabled"] == false && still["keys"].as_array().unwrap().len() == 1, "{still}");
}

#[tokio::test]
async fn users_are_managed_on_their_pages() {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    relay.add_user("root", &["--role", "admin"]).await;
    let root = Operator::log_in(&relay, "root").await;
    let add = |name, sites, password| {
        [
            ("name", name),
            ("role", "operator"),
            ("scope", "sites"),
            ("sites", sites),
            ("password", password),
            ("again", PASSWORD),
        ]
    };
    for (fields, problem) in [
        (add("maria", "nowhere", PASSWORD), "One of these sites does not exist"),
        (add("maria", "", PASSWORD), "at least one site"),
        (add("ma ria", "acme", PASSWORD), "A name has"),
        (add("maria", "acme", "something else"), "passwords differ"),
        (add("root", "acme", PASSWORD), "A user with this name already exists"),
    ] {
        let response = root.post("/users", &fields).await;
        assert_eq!(response.status(), 422, "{problem}");
        let page = response.text().await.unwrap();
        assert!(page.contains(problem) && !page.contains(PASSWORD), "{problem}: {page}");
    }
    let response = root.post("/users", &add("maria", "acme", PASSWORD)).await;
    assert_eq!(response.headers()[header::LOCATION], "/users?done=user-added");
    assert!(root.page("/users?done=user-added").await.contains("The user is added."));
    let maria = Operator::log_in(&relay, "maria").await;
    let own = [("current", PASSWORD), ("password", "a new horse battery"), ("again", "a new horse battery")];
    let wrong = [("current", "not my password"), own[1], own[2]];
    assert_eq!(maria.post("/password", &wrong).await.status(), 422);
    let other_browser = Operator::log_in(&relay, "maria").await;
    let response = maria.post("/password", &own).await;
    assert_eq!(response.status(), 303);
    let here = maria.entered(&response);
    assert!(here.is_logged_in().await && !maria.is_logged_in().await && !other_browser.is_logged_in().await);
    let rights = [("role", "viewer"), ("scope", "all"), ("playback", "yes")];
    assert_eq!(root.post("/users/maria", &rights).await.status(), 303);
    assert!(!here.is_logged_in().await, "a change of rights ends sessions");
    let changed = relay.command("user", &["list"]).await[0].clone();
    assert_eq!(
        (&changed["role"], &changed["sites"], &changed["playback"]),
        (&"viewer".into(), &Value::Null, &true.into())
    );
    let reset = [("password", PASSWORD), ("again", PASSWORD)];
    assert_eq!(root.post("/users/maria/password", &reset).await.status(), 303);
    Operator::log_in(&relay, "maria").await;
    let response = root.post("/users/root/remove", &[]).await;
    assert_eq!(response.status(), 422);
    assert!(response.text().await.unwrap().contains("last user who can manage users"));
    assert_eq!(root.post("/users/maria/remove", &[]).await.status(), 303);
    assert_eq!(root.get("/users/maria").await.status(), 404);
}

#[tokio::test]
async fn a_token_lives_until_it_is_removed() {
    let relay = Relay::start().await;
    relay.add_user("root", &["--role", "admin"]).await;
    let root = Operator::log_in(&relay, "root").await;
    let fields = [("name", "monitoring"), ("role", "viewer"), ("scope", "all"), ("days", "90")];
    let response = root.post("/tokens", &fields).await;
    assert_eq!(response.status(), 200);
    let page = response.text().await.unwrap();
    let token = format!("avt_{}", page.split(">avt_").nth(1).unwrap().split('<').next().unwrap());
    assert_eq!(token.len(), 56, "{token}");
    assert!(!root.page("/tokens").await.contains(&token), "it is shown once");
    let api = Api::new(&relay, &token);
    let (status, me) = api.get("/api/v1/me").await;
    assert_eq!((status, &me["name"], &me["role"]), (200, &"monitoring".into(), &"viewer".into()));
    assert_eq!(api.get("/api/v1/users").await.0, 403);
    assert_eq!(api.request(Method::GET, "/metrics").send().await.unwrap().status(), 200);
    let both = root.request(Method::GET, "/api/v1/me").bearer_auth("avt_wrong").send().await.unwrap();
    assert_eq!(both.status(), 401, "a sent token counts, not the session");
    assert_eq!(root.post("/tokens/monitoring/remove", &[]).await.status(), 303);
    assert_eq!(api.get("/api/v1/me").await.0, 401);

    let short = Api::with(&relay, "short", &["--expires", "1s"]).await;
    let ended = async {
        while short.get("/api/v1/me").await.0 != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(harness::process::PATIENCE, ended).await.expect("it ends by itself");
    let log = relay.process().log().join("\n");
    assert!(!log.contains("avt_"), "{log}");
}

#[tokio::test]
async fn the_api_says_what_is_wrong_in_problem_details() {
    let relay = Relay::start().await;
    let api = Api::admin(&relay).await;
    let user = json!({"name": "maria", "password": PASSWORD, "role": "viewer", "sites": null});
    assert_eq!(api.post("/api/v1/users", &user).await.0, 201);
    for (body, status, about) in [
        (user.clone(), 409, "maria"),
        (json!({"name": "jose", "password": "short", "role": "viewer"}), 422, "12 to 256"),
        (json!({"name": "jose", "password": PASSWORD, "role": "root"}), 422, "root"),
        (
            json!({"name": "jose", "password": PASSWORD, "role": "viewer", "sites": ["nowhere"]}),
            422,
            "nowhere",
        ),
        (json!({"name": "jose", "password": PASSWORD, "role": "viewer", "extra": 1}), 422, "extra"),
        (json!({"name": "Jo se", "password": PASSWORD, "role": "viewer"}), 422, "a name has"),
        (json!([]), 422, ""),
    ] {
        let (given, problem) = api.post("/api/v1/users", &body).await;
        assert_eq!((given, &problem["status"]), (status, &json!(status)), "{body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(about) && !detail.contains(PASSWORD), "{problem}");
        assert_eq!(problem["request_id"].as_str().unwrap().len(), 24);
    }
    for (request, status) in [
        (api.request(Method::POST, "/api/v1/users").body("{"), 415),
        (
            api.request(Method::POST, "/api/v1/users").header("content-type", "application/json").body("{"),
            400,
        ),
        (api.request(Method::PATCH, "/api/v1/users"), 405),
        (api.request(Method::GET, "/api/v1/nothing"), 404),
        (api.request(Method::GET, "/api/v1/users/%FF"), 400),
        (api.request(Method::GET, "/api/v1/users/no%20body"), 404),
        (
            api.request(Method::POST, "/api/v1/users")
                .header("content-type", "application/json")
                .body(vec![b' '; 2 << 20]),
            413,
        ),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status, "{problem}");
    }
    let rights = json!({"role": "operator", "playback": true});
    let (status, changed) = api.call(Method::PUT, "/api/v1/users/maria", Some(&rights)).await;
    assert_eq!((status, &changed["playback"]), (200, &json!(true)));
    let (_, listed) = api.get("/api/v1/users").await;
    assert_eq!(listed, relay.command("user", &["list"]).await, "the command line prints the same");
    let password = json!({"password": "a new horse battery"});
    assert_eq!(api.call(Method::PUT, "/api/v1/users/maria/password", Some(&password)).await.0, 204);
    assert_eq!(api.call(Method::DELETE, "/api/v1/users/maria", None).await.0, 204);
    assert_eq!(api.call(Method::DELETE, "/api/v1/users/maria", None).await.0, 404);
}

#[tokio::test]
async fn every_response_has_the_headers_that_protect_it() {
    let relay = Relay::start().await;
    relay.add_user("root", &["--role", "admin"]).await;
    let root = Operator::log_in(&relay, "root").await;
    let paths = [
        "/",
        "/login",
        "/users",
        "/users/root",
        "/tokens",
        "/password",
        "/nowhere",
        "/api/v1/me",
        "/api/v1/x",
        "/healthz",
    ];
    for path in paths {
        let response = root.get(path).await;
        let header = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains(&format!("media-src 'self' {}", relay.url())), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert!(header("strict-transport-security").is_empty(), "not in the clear");
        let page = response.text().await.unwrap();
        for forbidden in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
            assert!(!page.contains(forbidden), "{path} has {forbidden}");
        }
    }
    let page = root.page("/").await;
    let css = page.split("href=\"/assets/app.css").nth(1).unwrap().split('"').next().unwrap();
    let lasting = root.get(&format!("/assets/app.css{css}")).await;
    assert_eq!(lasting.headers()["cache-control"], "public, max-age=31536000, immutable");
    let tag = lasting.headers()["etag"].to_str().unwrap().to_owned();
    let again =
        root.request(Method::GET, "/assets/app.css").header("if-none-match", tag).send().await.unwrap();
    assert_eq!(
        (again.status().as_u16(), again.headers()["cache-control"].to_str().unwrap()),
        (304, "no-cache")
    );
}

#[tokio::test]
async fn pages_use_the_language_of_their_reader() {
    let relay = Relay::start().await;
    let visitor = Operator::logged_out(&relay);
    let login = async |language: &str, cookie: &str| {
        let request = visitor.request(Method::GET, "/login").header("accept-language", language);
        request.header("cookie", cookie).send().await.unwrap().text().await.unwrap()
    };
    assert!(login("es-MX,es;q=0.9", "").await.contains("Iniciar sesión"));
    assert!(login("fr", "").await.contains("Log in"));
    let switch = visitor.get("/login?next=%2Faudit&lang=es&theme=dark").await;
    assert_eq!(
        (switch.status().as_u16(), switch.headers()["location"].to_str().unwrap()),
        (303, "/login?next=%2Faudit")
    );
    let cookies: Vec<&str> = switch
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap())
        .collect();
    let page = login("en", &cookies.join("; ")).await;
    assert!(
        page.contains("Iniciar sesión") && page.contains("<html lang=\"es\" data-theme=\"dark\">"),
        "{page}"
    );
}

/// Opens the pages of a shell one after the other, and looks for accessibility problems and for content that does not
/// fit.
async fn walk(relay: &Relay, browser: &Browser, name: &str) {
    let url = relay.admin_url();
    for path in ["/", "/users", "/users/maria", "/tokens", "/password", "/nowhere"] {
        browser.open(&format!("{url}{path}")).await;
        browser.find("main h1").await;
        assert_eq!(browser.violations().await, Vec::<String>::new(), "{name} {path}");
        let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth", vec![]).await;
        assert!(overflow.as_i64().unwrap() <= 0, "{name} {path} is {overflow} pixels too wide");
        browser.screenshot(&format!("{name}{}", path.replace('/', "-"))).await;
    }
}

async fn enter(relay: &Relay, browser: &Browser) {
    browser.open(&relay.admin_url()).await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "login");
    browser.log_in(relay, "root").await;
}

async fn peopled() -> Relay {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    relay.add_user("root", &["--role", "admin"]).await;
    relay.add_user("maria", &["--role", "operator", "--site", "acme"]).await;
    relay.command("token", &["add", "monitoring", "--expires", "90d"]).await;
    relay
}

#[tokio::test]
async fn the_pages_are_accessible_and_switch_the_language() {
    let relay = peopled().await;
    let browser = Browser::start().await;
    enter(&relay, &browser).await;
    walk(&relay, &browser, "wide").await;
    browser.open(&format!("{}/users", relay.admin_url())).await;
    browser.wait_until("!document.querySelector('time').textContent.includes('UTC')").await;
    browser.click("details.menu > summary").await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "the open menu");
    browser.click("details.menu a[hreflang=es]").await;
    browser.wait_until("document.querySelector('h1').textContent === 'Usuarios'").await;
    assert_eq!(browser.violations().await, Vec::<String>::new(), "in Spanish");
    browser.open(&format!("{}/tokens", relay.admin_url())).await;
    browser.fill("#name", "copied").await;
    browser.click("form.stack button.primary").await;
    browser.find(".copy > button").await;
    assert!(browser.text(".copy code").await.starts_with("avt_"));
    assert_eq!(browser.violations().await, Vec::<String>::new(), "a new token");
    browser.open(&format!("{}/", relay.admin_url())).await;
    browser.click("details.menu > summary").await;
    browser.click("form[action='/logout'] button").await;
    browser.find("#password").await;
    browser.close().await;
}

#[tokio::test]
async fn pages_fit_on_a_phone_in_dark_mode() {
    let relay = peopled().await;
    let phone = BrowserOptions { window: (360, 740), dark: true, ..BrowserOptions::default() };
    let browser = Browser::start_with(phone).await;
    enter(&relay, &browser).await;
    walk(&relay, &browser, "phone").await;
    browser.close().await;
}
