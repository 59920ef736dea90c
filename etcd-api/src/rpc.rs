//! The calls of etcd's v3 API that Keyloom knows. A path that is not among them is a call all the same:
//! an etcd that is alone behind Keyloom may know it.

use http::uri::PathAndQuery;

use crate::Status;

/// Which sides of a call are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One request, one answer.
    Unary,
    /// One request, a stream of answers.
    ServerStream,
    /// A stream each way.
    BidirectionalStream,
}

/// A call of etcd's v3 API (`etcdserverpb/rpc.proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rpc {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKV,
    Snapshot,
    MoveLeader,
    Downgrade,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    AuthUserAdd,
    AuthUserGet,
    AuthUserList,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleGet,
    AuthRoleList,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
}

impl Rpc {
    /// Every call.
    pub const ALL: &[Self] = &[
        Self::Range,
        Self::RangeStream,
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::Compact,
        Self::Watch,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::LeaseKeepAlive,
        Self::LeaseTimeToLive,
        Self::LeaseLeases,
        Self::MemberAdd,
        Self::MemberRemove,
        Self::MemberUpdate,
        Self::MemberList,
        Self::MemberPromote,
        Self::Alarm,
        Self::Status,
        Self::Defragment,
        Self::Hash,
        Self::HashKV,
        Self::Snapshot,
        Self::MoveLeader,
        Self::Downgrade,
        Self::AuthEnable,
        Self::AuthDisable,
        Self::AuthStatus,
        Self::Authenticate,
        Self::AuthUserAdd,
        Self::AuthUserGet,
        Self::AuthUserList,
        Self::AuthUserDelete,
        Self::AuthUserChangePassword,
        Self::AuthUserGrantRole,
        Self::AuthUserRevokeRole,
        Self::AuthRoleAdd,
        Self::AuthRoleGet,
        Self::AuthRoleList,
        Self::AuthRoleDelete,
        Self::AuthRoleGrantPermission,
        Self::AuthRoleRevokePermission,
    ];

    /// The call that an HTTP/2 path names.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/etcdserverpb.")? {
            "KV/Range" => Self::Range,
            "KV/RangeStream" => Self::RangeStream,
            "KV/Put" => Self::Put,
            "KV/DeleteRange" => Self::DeleteRange,
            "KV/Txn" => Self::Txn,
            "KV/Compact" => Self::Compact,
            "Watch/Watch" => Self::Watch,
            "Lease/LeaseGrant" => Self::LeaseGrant,
            "Lease/LeaseRevoke" => Self::LeaseRevoke,
            "Lease/LeaseKeepAlive" => Self::LeaseKeepAlive,
            "Lease/LeaseTimeToLive" => Self::LeaseTimeToLive,
            "Lease/LeaseLeases" => Self::LeaseLeases,
            "Cluster/MemberAdd" => Self::MemberAdd,
            "Cluster/MemberRemove" => Self::MemberRemove,
            "Cluster/MemberUpdate" => Self::MemberUpdate,
            "Cluster/MemberList" => Self::MemberList,
            "Cluster/MemberPromote" => Self::MemberPromote,
            "Maintenance/Alarm" => Self::Alarm,
            "Maintenance/Status" => Self::Status,
            "Maintenance/Defragment" => Self::Defragment,
            "Maintenance/Hash" => Self::Hash,
            "Maintenance/HashKV" => Self::HashKV,
            "Maintenance/Snapshot" => Self::Snapshot,
            "Maintenance/MoveLeader" => Self::MoveLeader,
            "Maintenance/Downgrade" => Self::Downgrade,
            "Auth/AuthEnable" => Self::AuthEnable,
            "Auth/AuthDisable" => Self::AuthDisable,
            "Auth/AuthStatus" => Self::AuthStatus,
            "Auth/Authenticate" => Self::Authenticate,
            "Auth/UserAdd" => Self::AuthUserAdd,
            "Auth/UserGet" => Self::AuthUserGet,
            "Auth/UserList" => Self::AuthUserList,
            "Auth/UserDelete" => Self::AuthUserDelete,
            "Auth/UserChangePassword" => Self::AuthUserChangePassword,
            "Auth/UserGrantRole" => Self::AuthUserGrantRole,
            "Auth/UserRevokeRole" => Self::AuthUserRevokeRole,
            "Auth/RoleAdd" => Self::AuthRoleAdd,
            "Auth/RoleGet" => Self::AuthRoleGet,
            "Auth/RoleList" => Self::AuthRoleList,
            "Auth/RoleDelete" => Self::AuthRoleDelete,
            "Auth/RoleGrantPermission" => Self::AuthRoleGrantPermission,
            "Auth/RoleRevokePermission" => Self::AuthRoleRevokePermission,
            _ => return None,
        })
    }

    /// The HTTP/2 path of the call.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Range => "/etcdserverpb.KV/Range",
            Self::RangeStream => "/etcdserverpb.KV/RangeStream",
            Self::Put => "/etcdserverpb.KV/Put",
            Self::DeleteRange => "/etcdserverpb.KV/DeleteRange",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Compact => "/etcdserverpb.KV/Compact",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Self::LeaseRevoke => "/etcdserverpb.Lease/LeaseRevoke",
            Self::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Self::LeaseTimeToLive => "/etcdserverpb.Lease/LeaseTimeToLive",
            Self::LeaseLeases => "/etcdserverpb.Lease/LeaseLeases",
            Self::MemberAdd => "/etcdserverpb.Cluster/MemberAdd",
            Self::MemberRemove => "/etcdserverpb.Cluster/MemberRemove",
            Self::MemberUpdate => "/etcdserverpb.Cluster/MemberUpdate",
            Self::MemberList => "/etcdserverpb.Cluster/MemberList",
            Self::MemberPromote => "/etcdserverpb.Cluster/MemberPromote",
            Self::Alarm => "/etcdserverpb.Maintenance/Alarm",
            Self::Status => "/etcdserverpb.Maintenance/Status",
            Self::Defragment => "/etcdserverpb.Maintenance/Defragment",
            Self::Hash => "/etcdserverpb.Maintenance/Hash",
            Self::HashKV => "/etcdserverpb.Maintenance/HashKV",
            Self::Snapshot => "/etcdserverpb.Maintenance/Snapshot",
            Self::MoveLeader => "/etcdserverpb.Maintenance/MoveLeader",
            Self::Downgrade => "/etcdserverpb.Maintenance/Downgrade",
            Self::AuthEnable => "/etcdserverpb.Auth/AuthEnable",
            Self::AuthDisable => "/etcdserverpb.Auth/AuthDisable",
            Self::AuthStatus => "/etcdserverpb.Auth/AuthStatus",
            Self::Authenticate => "/etcdserverpb.Auth/Authenticate",
            Self::AuthUserAdd => "/etcdserverpb.Auth/UserAdd",
            Self::AuthUserGet => "/etcdserverpb.Auth/UserGet",
            Self::AuthUserList => "/etcdserverpb.Auth/UserList",
            Self::AuthUserDelete => "/etcdserverpb.Auth/UserDelete",
            Self::AuthUserChangePassword => "/etcdserverpb.Auth/UserChangePassword",
            Self::AuthUserGrantRole => "/etcdserverpb.Auth/UserGrantRole",
            Self::AuthUserRevokeRole => "/etcdserverpb.Auth/UserRevokeRole",
            Self::AuthRoleAdd => "/etcdserverpb.Auth/RoleAdd",
            Self::AuthRoleGet => "/etcdserverpb.Auth/RoleGet",
            Self::AuthRoleList => "/etcdserverpb.Auth/RoleList",
            Self::AuthRoleDelete => "/etcdserverpb.Auth/RoleDelete",
            Self::AuthRoleGrantPermission => "/etcdserverpb.Auth/RoleGrantPermission",
            Self::AuthRoleRevokePermission => "/etcdserverpb.Auth/RoleRevokePermission",
        }
    }

    /// [`Rpc::path`] as the type that requests carry.
    #[must_use]
    pub fn path_and_query(self) -> PathAndQuery {
        PathAndQuery::from_static(self.path())
    }

    /// The call's name without its service, for spans and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// Which sides of the call are streams.
    #[must_use]
    pub const fn shape(self) -> Shape {
        match self {
            Self::Watch | Self::LeaseKeepAlive => Shape::BidirectionalStream,
            Self::RangeStream | Self::Snapshot => Shape::ServerStream,
            _ => Shape::Unary,
        }
    }
}

/// What grpc-go answers to a call that its server does not have (`handleStream` in its `server.go`).
#[must_use]
pub fn unknown_call(path: &str) -> Status {
    let name = path.strip_prefix('/').unwrap_or(path);
    let Some((service, method)) = name.rsplit_once('/') else {
        return Status::unimplemented(format!("malformed method name: {path:?}"));
    };
    let is_known = Rpc::ALL.iter().any(|rpc| {
        let known = rpc.path().strip_prefix('/');
        known
            .and_then(|known| known.strip_prefix(service)?.strip_prefix('/'))
            .is_some()
    });
    Status::unimplemented(match is_known {
        true => format!("unknown method {method} for service {service}"),
        false => format!("unknown service {service}"),
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn paths_and_calls_are_one_to_one() {
        for &rpc in Rpc::ALL {
            assert_eq!(Rpc::from_path(rpc.path()), Some(rpc));
            assert_eq!(rpc.path_and_query().path(), rpc.path());
        }
        assert_eq!(Rpc::from_path("/etcdserverpb.KV/Nothing"), None);
        assert_eq!(Rpc::from_path("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn what_is_not_there_is_refused_as_by_grpc_go() {
        for (path, expected) in [
            ("/example.v9/Call", "unknown service example.v9"),
            ("/a/b/c", "unknown service a/b"),
            ("/v3lockpb.Lock/Lock", "unknown service v3lockpb.Lock"),
            (
                "/etcdserverpb.KV/Nothing",
                "unknown method Nothing for service etcdserverpb.KV",
            ),
            ("/etcdserverpb.K/Range", "unknown service etcdserverpb.K"),
            ("/Range", "malformed method name: \"/Range\""),
            ("/", "malformed method name: \"/\""),
        ] {
            let status = unknown_call(path);
            assert_eq!(status.code(), crate::Code::Unimplemented);
            assert_eq!(status.message(), expected);
        }
    }

    /// A call that a newer etcd adds must not go unnoticed.
    #[test]
    fn the_list_is_that_of_the_proto_file() {
        let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let mut declared = Vec::new();
        for file in set
            .file
            .iter()
            .filter(|file| file.package() == "etcdserverpb")
        {
            for service in &file.service {
                for method in &service.method {
                    let shape = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Shape::Unary,
                        (false, true) => Shape::ServerStream,
                        _ => Shape::BidirectionalStream,
                    };
                    let path = format!("/etcdserverpb.{}/{}", service.name(), method.name());
                    declared.push((path, shape));
                }
            }
        }
        let ours: Vec<_> = Rpc::ALL
            .iter()
            .map(|rpc| (rpc.path().to_owned(), rpc.shape()))
            .collect();
        assert_eq!(declared, ours);
    }
}
