//! Condition types and reasons; users script against them, so they are constants and never change meaning.

/// The condition that says whether an object does what its spec asks.
pub const READY: &str = "Ready";
/// The condition that says whether a tenant has a cell.
pub const SCHEDULED: &str = "Scheduled";
/// The condition that says whether the cell took the record.
pub const PULLED: &str = "Pulled";
/// The condition that says whether every key and certificate is there and fresh.
pub const CERTIFICATES_READY: &str = "CertificatesReady";
/// The condition that says whether the datastore serves with quorum.
pub const DATASTORE_READY: &str = "DatastoreReady";
/// The condition that says whether an apiserver answers.
pub const API_READY: &str = "ApiServerReady";
/// The condition that says whether controller manager and scheduler run.
pub const CONTROLLERS_READY: &str = "ControllersReady";
/// The condition that says whether the gateway routes to the apiserver.
pub const ROUTE_READY: &str = "RouteReady";
/// The condition that says whether the tenant holds its bootstrap data.
pub const BOOTSTRAPPED: &str = "Bootstrapped";
/// The condition that says whether what runs inside the tenant was applied to it.
pub const COMPONENTS_APPLIED: &str = "ComponentsApplied";
/// The condition that says that everything of a record is gone from its cell.
pub const DELETED: &str = "Deleted";
/// The condition that says whether a certificate was signed.
pub const ISSUED: &str = "Issued";
/// The condition that says whether the spec can be acted upon.
pub const VALID: &str = "Valid";
/// The condition that says whether a pool's cells have room for what is there and what comes.
pub const SUFFICIENT: &str = "Sufficient";
/// The condition that says whether a token still buys a registration.
pub const USABLE: &str = "Usable";
/// The condition that says whether a cell's provider has made all that was ordered.
pub const BUILT: &str = "Built";
/// The condition that says whether a change is under way.
pub const PROGRESSING: &str = "Progressing";

/// Everything asked for is there.
pub const AS_DESIRED: &str = "AsDesired";
/// A part is still coming up; the message says which.
pub const WAITING: &str = "Waiting";
/// It is on its node and will serve within seconds, unless it fails.
pub const STARTING: &str = "Starting";
/// The spec is wrong; the message names the field.
pub const INVALID_SPEC: &str = "InvalidSpec";
/// No cell can take the tenant; the message says why.
pub const NO_CELL: &str = "NoCell";
/// The object is being removed; the message says what is left.
pub const DELETING: &str = "Deleting";
/// A step failed and is retried; the message says which.
pub const FAILED: &str = "Failed";
/// A request was refused; the message says why.
pub const REFUSED: &str = "Refused";
/// The agent has checked in within the last two minutes.
pub const CHECKED_IN: &str = "CheckedIn";
/// The agent has not checked in for two minutes.
pub const NOT_CHECKED_IN: &str = "NotCheckedIn";
/// Fewer members than the quorum serve.
pub const NO_QUORUM: &str = "NoQuorum";
/// No more members may be added or removed right now; the message says why.
pub const BLOCKED: &str = "Blocked";
/// The provider is at work; the message says at what.
pub const BUILDING: &str = "Building";
/// The provider has no room for it now; the message says of what.
pub const EXHAUSTED: &str = "Exhausted";
/// More of it is wanted; the message says what is scarce.
pub const SHORT: &str = "Short";
/// It is soon full; the message says when.
pub const FILLING: &str = "Filling";
/// Another of its kind has taken its place.
pub const SUPERSEDED: &str = "Superseded";
/// Its time is over.
pub const EXPIRED: &str = "Expired";
/// It was taken back.
pub const REVOKED: &str = "Revoked";
/// It bought all that it could.
pub const USED_UP: &str = "UsedUp";
