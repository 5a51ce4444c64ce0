//! What a drill's pod says of it.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::build::drill::COMPARE;
use crate::build::{pod, restoring};
use crate::drill::Report;

/// What a pod says of its drill.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It goes on; what it does, for people.
    Running(String),
    /// What was made of the snapshot is what was taken.
    Passed(Report),
    /// It is not, or nothing could be made of it.
    Failed(String, Option<Report>),
}

/// Reads what became of a drill from its pod.
pub(super) fn examine(pod: &Pod) -> Finding {
    let status = pod.status.clone().unwrap_or_default();
    let container = |name: &str| {
        let all = [&status.init_container_statuses, &status.container_statuses];
        let mut all = all.into_iter().flatten().flatten();
        all.find(|status: &&ContainerStatus| status.name == name)
    };
    let ended = |name: &str| container(name)?.state.as_ref()?.terminated.clone();
    let said = |name: &str| {
        let message = ended(name).and_then(|end| end.message).unwrap_or_default();
        message
            .trim()
            .lines()
            .last()
            .unwrap_or("it said nothing")
            .to_owned()
    };
    if let Some(end) = ended(COMPARE) {
        let report: Option<Report> = end
            .message
            .and_then(|message| serde_json::from_str(message.trim()).ok());
        return match report {
            Some(report) if end.exit_code == 0 && report.differs.is_none() => Finding::Passed(report),
            Some(report) => {
                let why = report.differs.clone();
                let why = why.unwrap_or_else(|| format!("its comparison ended with {}", end.exit_code));
                Finding::Failed(why, Some(report))
            }
            None => Finding::Failed(said(COMPARE), None),
        };
    }
    if ended(restoring::CONTAINER).is_some_and(|end| end.exit_code != 0) {
        return Finding::Failed(said(restoring::CONTAINER), None);
    }
    if let Some(end) = ended(pod::CONTAINER) {
        let why = format!("its etcd ended with {}: {}", end.exit_code, said(pod::CONTAINER));
        return Finding::Failed(why, None);
    }
    if status.phase.as_deref() == Some("Failed") {
        let why = status.message.or(status.reason);
        return Finding::Failed(format!("its pod failed: {}", why.unwrap_or_default()), None);
    }
    let is_restored = ended(restoring::CONTAINER).is_some();
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    let reason = |state: &ContainerState| state.waiting.as_ref()?.reason.clone();
    let mut held = waiting.filter_map(|status| reason(status.state.as_ref()?));
    let held = held.find(|reason| reason.starts_with("Err") || reason.contains("BackOff"));
    Finding::Running(match (held, is_restored, status.phase.as_deref()) {
        (Some(reason), _, _) => format!("a container of its pod is in {reason}"),
        (None, true, _) => "an etcd starts from what was restored, and is compared".to_owned(),
        (None, false, Some("Pending")) if status.container_statuses.is_none() => {
            let conditions = status.conditions.iter().flatten();
            let mut unplaced =
                conditions.filter(|known| known.type_ == "PodScheduled" && known.status == "False");
            let why = unplaced.next().and_then(|known| known.message.clone());
            why.map_or_else(
                || "its pod starts".to_owned(),
                |why| format!("its pod is not scheduled: {why}"),
            )
        }
        (None, false, _) => "the snapshot is restored aside".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "status": status})).unwrap()
    }

    fn ended(name: &str, code: i32, message: &str) -> serde_json::Value {
        json!({"name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "message": message}}})
    }

    #[test]
    fn what_was_compared_is_the_result() {
        let told = r#"{"revision":9,"keys":40,"compared":["keys","hash"],"differs":null}"#;
        let found = examine(&pod(
            &json!({"phase": "Running", "containerStatuses": [ended(COMPARE, 0, told)]}),
        ));
        assert!(
            matches!(&found, Finding::Passed(report) if report.keys == 40),
            "{found:?}"
        );
        let told = r#"{"revision":9,"keys":39,"compared":[],"differs":"it has 39 keys"}"#;
        let found = examine(&pod(
            &json!({"phase": "Running", "containerStatuses": [ended(COMPARE, 1, told)]}),
        ));
        assert!(
            matches!(&found, Finding::Failed(why, Some(_)) if why == "it has 39 keys"),
            "{found:?}"
        );
    }

    #[test]
    fn a_snapshot_of_which_nothing_can_be_made_fails_with_the_reason() {
        let status = json!({"phase": "Failed", "initContainerStatuses": [
            ended(restoring::CONTAINER, 1, "error: s3://b/body is damaged: it is cut off\n")]});
        let found = examine(&pod(&status));
        assert!(
            matches!(&found, Finding::Failed(why, None) if why.contains("cut off")),
            "{found:?}"
        );
        let status = json!({"phase": "Running", "initContainerStatuses": [ended(restoring::CONTAINER, 0, "")],
            "containerStatuses": [ended(pod::CONTAINER, 2, "panic: a page is wrong")]});
        let found = examine(&pod(&status));
        assert!(
            matches!(&found, Finding::Failed(why, None) if why.contains("a page is wrong")),
            "{found:?}"
        );
        let found = examine(&pod(&json!({"phase": "Failed", "reason": "DeadlineExceeded"})));
        assert!(
            matches!(&found, Finding::Failed(why, None) if why.contains("DeadlineExceeded")),
            "{found:?}"
        );
    }

    #[test]
    fn a_drill_that_goes_on_says_what_it_does() {
        let said = |status: &serde_json::Value| match examine(&pod(status)) {
            Finding::Running(what) => what,
            other => panic!("{other:?}"),
        };
        let unplaced = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "no room"}]});
        assert!(said(&unplaced).contains("no room"));
        let restored =
            json!({"phase": "Running", "initContainerStatuses": [ended(restoring::CONTAINER, 0, "")]});
        assert!(said(&restored).contains("is compared"));
    }
}
