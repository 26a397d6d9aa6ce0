//! Several accounts behind one listener.

use super::*;

#[tokio::test]
async fn an_account_has_its_own_path_and_secrets() {
    let mut rig = Rig::start(settings()).await;
    let both: [(&str, &[&str]); 2] = [("a", &["secret-a"]), ("b", &["secret-b"])];
    rig.endpoints.send(endpoints(&settings(), &rig.intake, &both)).unwrap();
    let post = |path: &str, secret: &str| {
        let timestamp = now_ms().to_string();
        let signature = sign(secret.as_bytes(), &timestamp, BODY);
        request("POST", path, &[(TIMESTAMP, &timestamp), (SIGNATURE, &signature)], BODY)
    };
    for (place, (path, secret)) in
        [("/webhooks/pepay/a", "secret-a"), ("/webhooks/pepay/b", "secret-b")].into_iter().enumerate()
    {
        let answer = rig.send(post(path, secret));
        let delivery = next(&mut rig.receiver).await;
        assert_eq!(delivery.account, Account::at(place));
        settle(&rig.metrics, delivery, Outcome::Published);
        check(&soon(answer).await.unwrap(), 200, r#"{"ok":true}"#);
    }
    check(&rig.ask(post("/webhooks/pepay/a", "secret-b")).await, 400, r#"{"error":"invalid_signature"}"#);
    for path in ["/webhooks/pepay", "/webhooks/pepay/c"] {
        check(&rig.ask(post(path, "secret-a")).await, 404, r#"{"error":"not_found"}"#);
    }
    // An account that is removed.
    rig.endpoints.send(endpoints(&settings(), &rig.intake, &both[..1])).unwrap();
    check(&rig.ask(post("/webhooks/pepay/b", "secret-b")).await, 404, r#"{"error":"not_found"}"#);
    rig.finish().await;
}
