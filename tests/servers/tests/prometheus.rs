//! Prometheus serves its own settings and rules, and nobody's before it.

use servers::Prometheus;

#[tokio::test]
async fn it_evaluates_the_rules_that_it_is_given() {
    const SETTINGS: &str = "global: {evaluation_interval: 1s}\nrule_files: [seven.yml]\n";
    const RULES: &str = "groups: [{name: numbers, rules: [{record: seven, expr: 'vector(7)'}]}]\n";
    let prometheus = Prometheus::start(SETTINGS, &[("seven.yml", RULES)]).await;
    assert!(prometheus.query("vector(3) + 4 > 6").await.contains(r#""7""#));
    for _ in 0..100 {
        if prometheus.rules().await.contains(r#""health":"ok""#) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(prometheus.query("seven").await.contains(r#""7""#));
    assert!(prometheus.targets().await.contains(r#""activeTargets":[]"#), "it scrapes nothing");
}
