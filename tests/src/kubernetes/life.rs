//! The whole story of one cluster.

use serde_json::json;

use super::{
    Api, ControlPlane, Layout, Settings,
    stores::LATE,
    work::{self, CONFIG_MAPS, KINDS, NAMESPACES, Size},
};
use crate::metrics::Metrics;

/// Everything, in order.
pub async fn live(layout: &mut Layout, plane: &mut ControlPlane, size: Size) {
    let api = plane.api.clone();
    work::prepare(&api).await;
    plane.run_controllers();
    let watches = work::watch_all(&api).await;
    work::create(&api, size).await;
    grow(layout, &api, size).await;
    crash(layout, &api, size).await;
    work::apply(&api, size, 3).await;
    by_kubectl(plane, size).await;
    work::check_watches(&api, &watches, size).await;
    work::collect_garbage(&api).await;
    work::delete_namespace(&api).await;
    let uncached = Settings {
        watch_cache: false,
        ..plane.settings().clone()
    };
    let mut second = plane.beside(uncached).await;
    work::same(&api, &second.api, size).await;
    work::cache_agrees(&api, &second.api, size).await;
    second.check();
    drop(second);
    let conflicts = conflicts(&api).await;
    if plane.settings().old {
        // It does not compare its caches by itself: that was done above.
        work::check_watches(&api, &watches, size).await;
    } else {
        work::check_consistency(&api, size).await;
    }
    assert_eq!(
        conflicts,
        self::conflicts(&api).await,
        "nobody conflicts for ever"
    );
    work::check_places(&api, layout, size).await;
    plane.check();
}

/// While objects are changed the file gains a store and a route, and a namespace is made whose
/// objects go there. Nobody notices: no call fails, and no cache is filled anew.
async fn grow(layout: &mut Layout, api: &Api, size: Size) {
    let before = (work::lists(api).await, failures(api).await);
    tokio::join!(work::apply(api, size, 1), layout.grow());
    work::create_namespace(api, LATE).await;
    for kind in KINDS {
        for number in 0..size.objects / 2 {
            let object = kind.object(&format!("o{number}"), 0);
            api.create(&kind.within(LATE), &object).await;
        }
    }
    let after = (work::lists(api).await, failures(api).await);
    assert_eq!(before, after, "lists and failed calls");
}

/// While objects are changed Keyloom is killed and started again, and then the second one.
async fn crash(layout: &mut Layout, api: &Api, size: Size) {
    let crashes = async {
        layout.keyloom.crash().await;
        if let Some(second) = &mut layout.second {
            second.crash().await;
        }
    };
    tokio::join!(work::apply(api, size, 2), crashes);
    layout.settled().await;
}

/// kubectl does as its users expect: server-side apply, and a list in pages over all namespaces.
async fn by_kubectl(plane: &ControlPlane, size: Size) {
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "by-kubectl", "namespace": NAMESPACES[0]},
        "data": {"a": "b"},
    });
    let apply = ["apply", "--server-side", "-f", "-"];
    let said = plane.kubectl(&apply, &map.to_string()).await;
    assert!(said.contains("configmap/by-kubectl"), "{said}");
    let page = format!("--chunk-size={}", size.page);
    let list = ["get", "configmaps", "--all-namespaces", "-o", "name", &page];
    let names = plane.kubectl(&list, "").await;
    let listed = work::listed(&plane.api, CONFIG_MAPS, size).await;
    assert_eq!(names.lines().count(), listed.len(), "{names}");
}

/// How many calls for what the test changes failed by no fault of the client's.
async fn failures(api: &Api) -> f64 {
    let mut failures = Vec::new();
    for resource in KINDS.iter().map(|kind| kind.resource) {
        let of = |code| format!("code=\"{code}\",resource=\"{resource}\"");
        failures.extend(["500", "502", "503", "504"].map(of));
    }
    answers(api, &failures).await
}

/// How many calls that concern what the test and the controllers change met another version than
/// they knew.
async fn conflicts(api: &Api) -> f64 {
    let resources = KINDS.iter().map(|kind| kind.resource);
    let resources = resources.chain(["namespaces"]);
    let of = |resource| format!("code=\"409\",resource=\"{resource}\"");
    let conflicts: Vec<_> = resources.map(of).collect();
    answers(api, &conflicts).await
}

/// How many calls it answered so, by what the labels have in them.
async fn answers(api: &Api, labels: &[String]) -> f64 {
    let (code, text) = api.text("/metrics").await.expect("metrics");
    assert_eq!(code, 200, "metrics");
    let metrics = Metrics::parse(&text);
    let of = |labels: &String| {
        let labels: Vec<_> = labels.split(',').collect();
        metrics.sum("apiserver_request_total", &labels)
    };
    labels.iter().map(of).sum()
}
