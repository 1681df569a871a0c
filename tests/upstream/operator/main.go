// Command operator is an operator as people write them on controller-runtime: one kind of
// its own, children with owner references, a finalizer, conditions, events, and one leader
// among its instances. `make programs` runs two of them against Carrack.
package main

import (
	"flag"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Short, so that the other instance takes over while a test looks on.
const lease, renewal, retry = 4 * time.Second, 3 * time.Second, 500 * time.Millisecond

func main() {
	name := flag.String("name", "operator", "who this instance is, in the Lease and in what it writes")
	namespace := flag.String("namespace", "default", "where the Lease is")
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseDevMode(true)))
	if err := run(*name, *namespace); err != nil {
		ctrl.Log.Error(err, "cannot go on")
		os.Exit(1)
	}
}

func run(name, namespace string) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := schemeBuilder.AddToScheme(scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, "sites.example.com",
		resourcelock.ResourceLockConfig{Identity: name}, config, renewal)
	if err != nil {
		return err
	}
	leaseFor, renewFor, retryEvery := lease, renewal, retry
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                              scheme,
		Metrics:                             server.Options{BindAddress: "0"},
		LeaderElection:                      true,
		LeaderElectionResourceLockInterface: lock,
		LeaseDuration:                       &leaseFor,
		RenewDeadline:                       &renewFor,
		RetryPeriod:                         &retryEvery,
	})
	if err != nil {
		return err
	}
	reconciler := &sites{
		Client:   manager.GetClient(),
		uncached: manager.GetAPIReader(),
		recorder: manager.GetEventRecorder("site-operator"),
		name:     name,
	}
	if err := reconciler.setup(manager); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
