//! Labels, annotations and finalizers that every part of the platform agrees on.

/// The cell that an object belongs to.
pub const CELL: &str = "skep.dev/cell";
/// The project that an object belongs to.
pub const PROJECT: &str = "skep.dev/project";
/// The tenant cluster that an object belongs to.
pub const CLUSTER: &str = "skep.dev/cluster";
/// The control plane that an object belongs to.
pub const CPID: &str = "skep.dev/cpid";
/// The size class of a control plane.
pub const CLASS: &str = "skep.dev/class";
/// The profile of a control plane.
pub const PROFILE: &str = "skep.dev/profile";
/// The component of a control plane.
pub const COMPONENT: &str = "skep.dev/component";
/// The zone that an object is in.
pub const ZONE: &str = "skep.dev/zone";
/// Standard: the application's name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Standard: the application's instance.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Standard: the component within the application.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Standard: what the application is part of.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Standard: what manages the object.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Standard: the zone of a node.
pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
/// Standard: the region of a node.
pub const TOPOLOGY_REGION: &str = "topology.kubernetes.io/region";

/// Annotation: the W3C trace context of the request that caused an object.
pub const TRACEPARENT: &str = "skep.dev/traceparent";
/// Annotation: SHA-256 of the `Idempotency-Key` that made an object.
pub const IDEMPOTENCY_KEY: &str = "skep.dev/idempotency-key";
/// Annotation: SHA-256 of the request body that made an object.
pub const IDEMPOTENCY_BODY: &str = "skep.dev/idempotency-body";

/// Annotation of a pod: the tenant, as cpid, in whose network the cell's provider gives it an interface.
pub const TENANT_INTERFACE: &str = "skep.dev/tenant-interface";

/// The finalizer of one controller.
pub fn finalizer(controller: &str) -> String {
    format!("skep.dev/{controller}")
}

/// The field manager of one controller.
pub fn field_manager(controller: &str) -> String {
    format!("skep.dev/{controller}")
}
