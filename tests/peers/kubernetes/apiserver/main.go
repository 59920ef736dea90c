// The kube-apiserver as it is, but that the time between two of its own comparisons of its cache
// with the store can be set: 5 to 7.5 minutes before the first one are too long for every test.
package main

import (
	"fmt"
	"os"
	"time"
	_ "time/tzdata"

	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const period = "KEYLOOM_CONSISTENCY_CHECK_PERIOD"

func main() {
	if text := os.Getenv(period); text != "" {
		duration, err := time.ParseDuration(text)
		if err != nil || duration <= 0 {
			fmt.Fprintf(os.Stderr, "%s: %q is no duration\n", period, text)
			os.Exit(64)
		}
		cacher.ConsistencyCheckPeriod = duration
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
