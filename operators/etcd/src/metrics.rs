//! The operator's metrics; labels are bounded, and no object's name is among them.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, opts, register_int_counter_vec};

use crate::decide::Action;

/// Steps that were carried out, by kind and what became of them.
#[expect(
    clippy::expect_used,
    reason = "name and labels are constants, registered once"
)]
pub static STEPS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_etcd_steps_total", "Steps towards the desired members");
    register_int_counter_vec!(options, &["step", "outcome"]).expect("the metric is valid and registered once")
});

/// Snapshots that were taken, and attempts that failed.
#[expect(
    clippy::expect_used,
    reason = "name and labels are constants, registered once"
)]
pub static SNAPSHOTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!("skep_etcd_snapshots_total", "Snapshots of datastores");
    register_int_counter_vec!(options, &["outcome"]).expect("the metric is valid and registered once")
});

/// Drills that have ended.
#[expect(
    clippy::expect_used,
    reason = "name and labels are constants, registered once"
)]
pub static DRILLS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = opts!(
        "skep_etcd_drills_total",
        "Snapshots that were restored aside and compared"
    );
    register_int_counter_vec!(options, &["outcome"]).expect("the metric is valid and registered once")
});

/// The label of an action.
pub fn step(action: &Action) -> &'static str {
    match action {
        Action::Latch(_) => "latch",
        Action::RecordBootstrap => "record-bootstrap",
        Action::ClearIntent => "clear-intent",
        Action::Adopt(_) => "adopt",
        Action::StartMember { .. } => "start-member",
        Action::SetStart { .. } => "set-start",
        Action::Release { .. } => "release",
        Action::DeletePod { .. } => "delete-pod",
        Action::DeleteClaim { .. } => "delete-claim",
        Action::AddLearner { .. } => "add-learner",
        Action::Promote { .. } => "promote",
        Action::MoveLeader { .. } => "move-leader",
        Action::RemoveMember { .. } => "remove-member",
        Action::Compact { .. } => "compact",
        Action::Defragment { .. } => "defragment",
        Action::Disarm(_) => "disarm",
        Action::Rotate(_) => "rotate",
        Action::Backup(_) => "backup",
        Action::Drill => "drill",
        Action::BeginRestore(_) => "begin-restore",
        Action::PassOver(_) => "pass-over",
        Action::SetAside { .. } => "set-aside",
        Action::FormRestored => "form-restored",
        Action::Wait { .. } => "wait",
        Action::Done => "done",
    }
}
