//! Who can log in, and who cannot.

use harness::{
    operator::{Api, Operator, PASSWORD, page_routes, session_cookie},
    process::run,
    relay::Relay,
};
use reqwest::{Client, Method, Response, header, redirect::Policy};

fn location(response: &Response) -> &str {
    response.headers().get(header::LOCATION).map_or("", |to| to.to_str().unwrap())
}

#[tokio::test]
async fn nothing_answers_without_a_login() {
    let relay = Relay::start().await;
    let (status, document) = Api::admin(&relay).await.get("/api/openapi.json").await;
    assert_eq!(status, 200);
    let visitor = Operator::logged_out(&relay);
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "root").replace("{site}", "acme");
        for method in operations.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let response = visitor.request(method.clone(), &path).send().await.unwrap();
            assert_eq!(response.status(), 401, "{method} {path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            asked += 1;
        }
    }
    assert!(asked >= 10, "the document names only {asked} operations");
    for path in ["/api/openapi.json", "/api/v1/nowhere", "/metrics", "/api/v1/sites"] {
        assert_eq!(visitor.get(path).await.status(), 401, "{path}");
    }
    let pages = page_routes();
    assert!(pages.len() >= 20, "only {pages:?}");
    for path in pages.iter().chain(&["/nowhere", "/sites/acme/nowhere"]) {
        let path = path.replace("{name}", "root").replace("{site}", "acme");
        let path = path.as_str();
        let response = visitor.get(path).await;
        assert_eq!(response.status(), 303, "{path}");
        assert!(location(&response).starts_with("/login"), "{path} leads to {}", location(&response));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let response = visitor.request(method.clone(), path).send().await.unwrap();
            assert_eq!((response.status().as_u16(), location(&response)), (303, "/login"), "{method} {path}");
        }
    }
    for path in ["/login", "/healthz", "/readyz", "/assets/app.css", "/assets/app.js", "/assets/icon.svg"] {
        assert_eq!(visitor.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(visitor.get("/assets/nothing.js").await.status(), 404);
    let open = Relay::start_with(&["--metrics-public"], false).await;
    assert_eq!(Operator::logged_out(&open).get("/metrics").await.status(), 200);
}

#[tokio::test]
async fn a_user_logs_in_and_others_do_not() {
    let relay = Relay::start().await;
    relay.add_user("maria", &[]).await;
    let visitor = Operator::logged_out(&relay);
    for (name, password) in [
        ("maria", "wrong horse battery staple"),
        ("nobody", PASSWORD),
        ("", ""),
        ("maria", ""),
        ("\u{0}", PASSWORD),
    ] {
        let response = visitor.try_log_in(name, password).await;
        assert_eq!(response.status(), 401, "{name:?}");
        assert!(session_cookie(&response).is_none());
        assert!(response.text().await.unwrap().contains("The user name or the password is wrong."));
    }
    let response = visitor.try_log_in("Maria", PASSWORD).await;
    assert_eq!((response.status().as_u16(), location(&response)), (303, "/"));
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("audiovault=") && !cookie.contains("Domain"), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    relay.process().wait_for("login user=\"maria\"").await;
    relay.process().wait_for("login refused user=\"nobody\"").await;
    let log = relay.process().log().join("\n");
    assert!(!log.contains(PASSWORD) && !log.contains("horse"), "{log}");
}

#[tokio::test]
async fn the_login_leads_to_the_page_that_was_asked_for_and_to_no_other_host() {
    let relay = Relay::start().await;
    relay.add_user("maria", &[]).await;
    let visitor = Operator::logged_out(&relay);
    assert_eq!(
        location(&visitor.get("/audit?site=acme&q=a%26b").await),
        "/login?next=%2Faudit%3Fsite%3Dacme%26q%3Da%2526b"
    );
    let form = visitor.page("/login?next=%2Faudit%3Fsite%3Dacme").await;
    assert!(form.contains("name=\"next\" value=\"/audit?site=acme\""), "{form}");
    for (next, to) in
        [("/audit?site=acme", "/audit?site=acme"), ("//evil.example", "/"), ("https://evil.example", "/")]
    {
        let form = [("name", "maria"), ("password", PASSWORD), ("next", next)];
        let response = visitor.request(Method::POST, "/login").form(&form).send().await.unwrap();
        assert_eq!((response.status().as_u16(), location(&response)), (303, to), "{next}");
    }
}

#[tokio::test]
async fn guesses_are_throttled_only_for_one_name() {
    let relay = Relay::start().await;
    relay.add_user("maria", &[]).await;
    relay.add_user("jose", &[]).await;
    let visitor = Operator::logged_out(&relay);
    let mut slowed = None;
    for _ in 0..20 {
        let response = visitor.try_log_in("maria", "wrong horse battery staple").await;
        if response.status() == 429 {
            slowed = Some(response);
            break;
        }
        assert_eq!(response.status(), 401);
    }
    let response = slowed.expect("guesses are throttled");
    let wait: u64 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    Operator::log_in(&relay, "jose").await;
    relay.process().wait_for("too many attempts").await;
    let locked = "/api/v1/operator-events?action=login.locked_out";
    let (_, events) = Api::admin(&relay).await.get(locked).await;
    assert_eq!(events["events"][0]["actor"], "maria", "{events}");
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    tokio::time::sleep(std::time::Duration::from_secs(wait)).await;
    Operator::log_in(&relay, "maria").await;
}

#[tokio::test]
async fn a_user_who_logs_out_is_logged_out_everywhere() {
    let relay = Relay::start().await;
    relay.add_user("maria", &[]).await;
    let maria = Operator::log_in(&relay, "maria").await;
    let other_browser = Operator::log_in(&relay, "maria").await;
    assert_ne!(maria.cookie, other_browser.cookie);
    let response = maria.post("/logout", &[]).await;
    assert_eq!((response.status().as_u16(), location(&response)), (303, "/login"));
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("audiovault=;") && cookie.contains("Max-Age=0"), "{cookie}");
    assert!(!maria.is_logged_in().await, "the session has ended here, not only in the browser");
    assert!(other_browser.is_logged_in().await);
}

#[tokio::test]
async fn a_change_by_the_command_line_ends_sessions_of_a_running_relay() {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    relay.add_user("root", &["--role", "admin"]).await;
    relay.add_user("maria", &[]).await;
    let root = Operator::log_in(&relay, "root").await;
    let maria = Operator::log_in(&relay, "maria").await;
    let changed = relay.command("user", &["set", "maria", "--role", "operator", "--site", "acme"]).await;
    assert_eq!((&changed["role"], &changed["sites"][0]), (&"operator".into(), &"acme".into()));
    assert!(!maria.is_logged_in().await);
    let maria = Operator::log_in(&relay, "maria").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "another horse battery\n").unwrap();
    let file = file.path().to_str().unwrap();
    relay.command("user", &["passwd", "maria", "--password-file", file]).await;
    assert!(!maria.is_logged_in().await);
    assert_eq!(maria.try_log_in("maria", PASSWORD).await.status(), 401);
    assert_eq!(maria.try_log_in("maria", "another horse battery").await.status(), 303);
    relay.command("user", &["remove", "maria"]).await;
    assert_eq!(maria.try_log_in("maria", "another horse battery").await.status(), 401);
    assert!(root.is_logged_in().await, "others stay");
    let list = relay.command("user", &["list"]).await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let database = relay.database();
    let last = ["user", "remove", "root", "--database", &database];
    let (code, _, err) = run("audiovault-relay", &last, &[]).await;
    assert!(code == 1 && err.contains("last user who can manage users"), "{err}");
    let short = ["user", "add", "jose", "--database", &database, "--password-file", "-"];
    let (code, _, err) = run("audiovault-relay", &short, &[]).await;
    assert!(code == 1 && err.contains("12 to 256 characters"), "{err}");
}

#[tokio::test]
async fn a_session_that_is_not_used_ends_and_a_common_password_is_refused() {
    let relay = Relay::start_with(&["--session-idle", "1s"], false).await;
    relay.add_user("maria", &[]).await;
    let maria = Operator::log_in(&relay, "maria").await;
    // The time is counted from the last stored use, at most a minute ago.
    let ended = async {
        while maria.is_logged_in().await {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(harness::process::PATIENCE, ended).await.expect("the session ends");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "password1234\n").unwrap();
    let (database, file) = (relay.database(), file.path().to_str().unwrap());
    let add = ["user", "add", "jose", "--database", &database, "--password-file", file];
    let (code, _, said) = run("audiovault-relay", &add, &[]).await;
    assert!(code == 1 && said.contains("easily guessed"), "{said}");
}

#[tokio::test]
async fn requests_from_other_sites_are_refused() {
    let relay = Relay::start().await;
    relay.add_user("root", &["--role", "admin"]).await;
    let root = Operator::log_in(&relay, "root").await;
    let csrf = root.csrf().await;
    let url = relay.admin_url();
    let add = [
        ("name", "mallory"),
        ("role", "admin"),
        ("scope", "all"),
        ("password", PASSWORD),
        ("again", PASSWORD),
    ];
    let with = |token: &'static str| add.into_iter().chain([("csrf", token)]).collect::<Vec<_>>();
    let right: Vec<_> = add.into_iter().chain([("csrf", csrf.as_str())]).collect();
    let post =
        || Client::new().post(format!("{url}/users")).header(header::COOKIE, root.cookie.as_ref().unwrap());
    for request in [
        post().header(header::ORIGIN, &url).form(&add),
        post().header(header::ORIGIN, &url).form(&with("wrong")),
        post().header(header::ORIGIN, "https://evil.example").form(&right),
        post().header(header::ORIGIN, "null").form(&right),
        post().form(&right),
        post().header(header::ORIGIN, &url).header("sec-fetch-site", "cross-site").form(&right),
        post().header(header::ORIGIN, &url).header("sec-fetch-site", "same-site").form(&right),
        post().header(header::ORIGIN, &url).header("x-csrf-token", "wrong").form(&right),
        post().header(header::ORIGIN, &url).json(&serde_json::json!({ "csrf": csrf })),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 403);
    }
    let login = Client::new().post(format!("{url}/login")).header(header::ORIGIN, "https://evil.example");
    let login = login.form(&[("name", "root"), ("password", PASSWORD)]).send().await.unwrap();
    assert_eq!(login.status(), 403, "another site cannot log a browser in");
    assert_eq!(relay.command("user", &["list"]).await.as_array().unwrap().len(), 1);
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let own = client.post(format!("{url}/users")).header(header::COOKIE, root.cookie.as_ref().unwrap());
    let own = own.header("sec-fetch-site", "same-origin").header(header::ORIGIN, "null").form(&right);
    assert_eq!(own.send().await.unwrap().status(), 303);
    let json = root.request(Method::DELETE, "/api/v1/users/mallory").header("x-csrf-token", &csrf);
    assert_eq!(json.send().await.unwrap().status(), 204, "scripts of our pages send the token as a header");
}

#[tokio::test]
async fn the_set_up_link_works_once() {
    let mut relay = Relay::start().await;
    let line = relay.process().wait_for_code("user.none_yet").await;
    let first = line.split('"').nth(1).unwrap().to_owned();
    relay.kill().await;
    relay.restart().await;
    let line = relay.process().wait_for_code("user.none_yet").await;
    let link = line.split('"').nth(1).unwrap();
    let path = link.strip_prefix(&relay.admin_url()).expect("the link leads to the admin listener");
    let visitor = Operator::logged_out(&relay);
    let old = format!("/setup/{}", first.rsplit('/').next().unwrap());
    assert_eq!(visitor.get(&old).await.status(), 404, "every start makes a new link");
    assert!(visitor.page(path).await.contains("Set up this relay"));
    let send = async |path: &str, name: &str, again: &str| {
        let form = [("name", name), ("password", PASSWORD), ("again", again)];
        visitor.request(Method::POST, path).form(&form).send().await.unwrap()
    };
    assert_eq!(send(path, "root", "something else").await.status(), 422);
    assert_eq!(send(&old, "root", PASSWORD).await.status(), 404);
    let response = send(path, "root", PASSWORD).await;
    assert_eq!((response.status().as_u16(), location(&response)), (303, "/"));
    let root = visitor.entered(&response);
    assert!(root.page("/users").await.contains("root"), "the first user is an admin");
    assert_eq!(send(path, "mallory", PASSWORD).await.status(), 404);
    assert_eq!(visitor.get(path).await.status(), 404);
    relay.kill().await;
    relay.restart().await;
    assert!(!relay.process().log().join("\n").contains("/setup/"));
}

#[tokio::test]
async fn over_tls_the_cookie_belongs_only_to_this_host() {
    let relay = Relay::start_with(&["--trusted-proxy", "127.0.0.0/8"], false).await;
    relay.add_user("maria", &[]).await;
    let visitor = Operator::logged_out(&relay);
    let form = [("name", "maria"), ("password", PASSWORD)];
    let login = visitor.request(Method::POST, "/login").header("x-forwarded-proto", "https").form(&form);
    let response = login.send().await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-audiovault="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure; Path=/"), "{cookie}");
    assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
    let switch =
        visitor.request(Method::GET, "/login?lang=es&theme=dark").header("x-forwarded-proto", "https");
    let switch = switch.send().await.unwrap();
    let cookies: Vec<_> = switch.headers().get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2, "language and theme");
    for cookie in cookies {
        assert!(cookie.to_str().unwrap().contains("; Secure"), "{cookie:?}");
    }
    let maria = visitor.entered(&response);
    let over_tls = maria.request(Method::GET, "/").header("x-forwarded-proto", "https").send().await.unwrap();
    assert_eq!(over_tls.status(), 200);
    assert!(!maria.is_logged_in().await, "a cookie from TLS is not valid over plain HTTP");
}
