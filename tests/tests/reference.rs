//! The yardstick itself: an etcd answers as another one of its version, and as the model. What
//! differs here would be blamed on Keyloom elsewhere.

use keyloom_testkit::{
    model,
    program::{Generator, Settings, Tolerance, same_answer},
};
use keyloom_tests::{
    Duel, Etcd, Version,
    duel::{everyday_keys, grant_leases, steps},
};

async fn two_etcds_agree(version: Version, seed: u64) {
    let [one, other] = Etcd::start_all([version; 2]).await;
    let (one, other) = (one.client(), other.client());
    let mut settings = Settings::new(everyday_keys());
    settings.invalid_sorts = version.survives_invalid_sorts();
    settings.leases = grant_leases(&[&one, &other]).await;
    Duel::new(seed, settings, one, other)
        .run(steps(4_000))
        .await;
}

#[tokio::test]
async fn two_etcds_3_6_agree() {
    two_etcds_agree(Version::V36, 1).await;
}

#[tokio::test]
async fn two_etcds_3_4_agree() {
    two_etcds_agree(Version::V34, 2).await;
}

/// The model is that of etcd 3.6.
#[tokio::test]
async fn the_model_agrees_with_etcd() {
    let etcd = Etcd::start(Version::V36).await;
    let client = etcd.client();
    let mut model = model::Etcd::default();
    let mut generator = Generator::new(3, Settings::new(everyday_keys()));
    for at in 0..steps(6_000) {
        let step = generator.next_step();
        let expected = client.step(&step).await;
        let got = model.apply(&step).map_err(Into::into);
        generator.learn(&step, &expected);
        let same = same_answer(&expected, &got, Tolerance { cluster_id: true });
        assert!(same.is_ok(), "step {at}: {step:#?}\n{}", same.unwrap_err());
    }
}
