//go:build tools

// Package peers names the real stores and clients that the tests talk to, so that `go mod tidy`
// keeps them in go.mod and go.sum. It is never compiled: `cargo xtask peers` builds each main
// package by itself.
//
// One module holds them all: kine asks for etcd's libraries at an older 3.6 patch, and takes
// those of the server beside it.
package peers

import (
	_ "github.com/k3s-io/kine"
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
