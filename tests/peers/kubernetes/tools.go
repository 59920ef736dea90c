//go:build tools

// Package tools names what the tests build of Kubernetes, so that `go mod tidy` keeps it in go.mod
// and go.sum. It is never compiled.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
