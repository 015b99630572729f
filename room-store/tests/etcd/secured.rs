//! TLS, and etcd's own users.

use std::{path::PathBuf, time::Duration};

use etcd_client::{Client, Permission, PermissionType};
use room_store::etcd::{EtcdConfig, EtcdDirectory, EtcdTls};
use servers::{Certificates, Etcd};
use telemetry::settings::Secret;

use super::{PATIENCE, config, node, nodes, register, until};

fn tls(certificates: &Certificates) -> EtcdTls {
    EtcdTls { ca: Some(certificates.ca()), cert: Some(certificates.client()), key: Some(certificates.client_key()) }
}

#[tokio::test]
async fn over_tls_it_works_with_our_certificate_and_not_without_or_with_anothers() {
    let etcd = Etcd::tls().await;
    let own = etcd.certificates().expect("it has some");
    let other = Certificates::new();
    let good = EtcdConfig { tls: tls(own), ..config([etcd.endpoint()]) };
    let directory = EtcdDirectory::connect(&good).expect("usable");
    assert!(directory.loaded(PATIENCE).await);
    let _held = register(&directory, node("n")).await;
    nodes(&directory, |map| map.nodes.contains_key("n")).await;

    let no_certificate = EtcdTls { cert: None, key: None, ..tls(own) };
    let others_certificate = EtcdTls { ca: Some(own.ca()), ..tls(&other) };
    let others_authority = EtcdTls { ca: Some(other.ca()), ..tls(own) };
    for refused in [no_certificate, others_certificate, others_authority] {
        let settings = EtcdConfig { tls: refused.clone(), ..config([etcd.endpoint()]) };
        let directory = EtcdDirectory::connect(&settings).expect("usable by themselves");
        assert!(!directory.loaded(Duration::from_secs(2)).await, "{refused:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let (own, other) = (Certificates::new(), Certificates::new());
    let https = || config(["https://127.0.0.1:2379".to_owned()]);
    let http = || config(["http://127.0.0.1:2379".to_owned()]);
    let with_tls = |change: fn(&mut EtcdTls, &Certificates)| {
        let mut tls = tls(&own);
        change(&mut tls, &other);
        EtcdConfig { tls, ..https() }
    };
    let secret = || Some(Secret::new("s3cret"));
    for (settings, start) in [
        (config(["127.0.0.1:2379".to_owned()]), "etcd.endpoints.0: must be http://host:port"),
        (config(["http://a:1/x".to_owned()]), "etcd.endpoints.0: must be"),
        (config(["http://u:p@a:1".to_owned()]), "etcd.endpoints.0: must be"),
        (config(["http://a:1".to_owned(), "https://b:1".to_owned()]), "etcd.endpoints.1: http and https"),
        (config((0..17).map(|index| format!("http://a:{index}"))), "etcd.endpoints: at most 16"),
        (config([]), "etcd.endpoints: names no member"),
        (EtcdConfig { prefix: "sluice".to_owned(), ..http() }, "etcd.prefix: "),
        (EtcdConfig { prefix: "/".to_owned(), ..http() }, "etcd.prefix: "),
        (EtcdConfig { prefix: "/a\u{0}b".to_owned(), ..http() }, "etcd.prefix: "),
        (EtcdConfig { username: Some("u".to_owned()), ..http() }, "etcd.password: needed"),
        (EtcdConfig { password: secret(), ..http() }, "etcd.password: has no meaning"),
        (
            EtcdConfig { username: Some("u".to_owned()), password: Some(Secret::new("")), ..http() },
            "etcd.password: is empty",
        ),
        (
            EtcdConfig { password: secret(), password_file: Some(PathBuf::from("f")), ..http() },
            "etcd.password_file: cannot be used with",
        ),
        (
            EtcdConfig { username: Some("u".to_owned()), password_file: Some(PathBuf::from("none")), ..http() },
            "etcd.password_file: none: No such file",
        ),
        (https(), "etcd.tls.ca: needed"),
        (EtcdConfig { tls: tls(&own), ..http() }, "etcd.tls.ca: has no meaning without https"),
        (with_tls(|tls, _| tls.ca = Some(PathBuf::from("none"))), "etcd.tls.ca: none: No such file"),
        (with_tls(|tls, _| tls.ca.clone_from(&tls.key)), "etcd.tls.ca: "),
        (with_tls(|tls, _| tls.key = None), "etcd.tls.key: needed"),
        (with_tls(|tls, _| tls.cert = None), "etcd.tls.cert: needed"),
        (with_tls(|tls, other| tls.key = Some(other.client_key())), "etcd.tls.key: cannot be used with"),
    ] {
        let error = EtcdDirectory::connect(&settings).err().expect("cannot be used").to_string();
        assert!(error.starts_with(start), "{error:?} and not {start:?}");
    }
}

#[tokio::test]
async fn with_users_it_works_with_the_password_and_not_with_another() {
    let mut etcd = Etcd::start().await;
    let mut admin = Client::connect([etcd.endpoint()], None).await.expect("connected");
    admin.role_add("sluice").await.expect("added");
    let everything = Permission::new(PermissionType::Readwrite, "/sluice/").with_prefix();
    admin.role_grant_permission("sluice", everything).await.expect("granted");
    for (user, role) in [("root", "root"), ("sluice", "sluice")] {
        admin.user_add(user, "s3cret", None).await.expect("added");
        if role == "root" {
            admin.role_add(role).await.expect("added");
        }
        admin.user_grant_role(user, role).await.expect("granted");
    }
    admin.auth_enable().await.expect("enabled");

    let with = |password: &str| EtcdConfig {
        username: Some("sluice".to_owned()),
        password: Some(Secret::new(password)),
        ..config([etcd.endpoint()])
    };
    let directory = EtcdDirectory::connect(&with("s3cret")).expect("usable");
    assert!(directory.loaded(PATIENCE).await, "read in time");
    let held = register(&directory, node("n")).await;
    nodes(&directory, |map| map.nodes.contains_key("n")).await;
    for wrong in [with("wrong"), config([etcd.endpoint()])] {
        let directory = EtcdDirectory::connect(&wrong).expect("usable by itself");
        assert!(!directory.loaded(Duration::from_secs(2)).await);
    }
    // A server started anew knows no token any more: another is asked for.
    etcd.start_again().await;
    until("it is seen again", async || held.report(room_store::Load::default()).await.is_ok()).await;
}
