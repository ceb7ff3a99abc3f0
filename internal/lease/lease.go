// Package lease shares upstreams out among replicas: each upstream has a Lease, and
// the replica that holds it serves the upstream. The package knows nothing of how an
// upstream is served.
package lease

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// +kubebuilder:rbac:namespace=gimbal-discovery,groups=coordination.k8s.io,resources=leases,verbs=get;create;update;delete

// Times are the times of a Lease, as leaderelection.LeaderElectionConfig explains them.
type Times struct {
	// Duration is after how long without a renewal another replica takes the Lease.
	Duration time.Duration
	// Renew is after how long without a renewal the holder stops.
	Renew time.Duration
	// Retry is the time between two attempts to take or to renew the Lease.
	Retry time.Duration
}

// TimesFor returns times in the proportions that controller-runtime uses: 15 s, 10 s, 2 s.
func TimesFor(duration time.Duration) Times {
	return Times{Duration: duration, Renew: duration * 2 / 3, Retry: duration * 2 / 15}
}

// Name is the name of an upstream's Lease.
func Name(upstream string) string { return "gimbal-upstream-" + upstream }

// Holder returns which replica holds an upstream's Lease now, or "" if none does.
func Holder(ctx context.Context, client kubernetes.Interface, namespace, upstream string, now time.Time) (string, error) {
	lease, err := client.CoordinationV1().Leases(namespace).Get(ctx, Name(upstream), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading Lease %s/%s: %w", namespace, Name(upstream), err)
	}
	s := lease.Spec
	if s.HolderIdentity == nil || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return "", nil
	}
	if now.Sub(s.RenewTime.Time) > time.Duration(*s.LeaseDurationSeconds)*time.Second {
		return "", nil
	}
	return *s.HolderIdentity, nil
}

// Delete deletes the Lease of an upstream that is gone. A missing Lease is no error.
func Delete(ctx context.Context, client kubernetes.Interface, namespace, upstream string) error {
	err := client.CoordinationV1().Leases(namespace).Delete(ctx, Name(upstream), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Lease %s/%s: %w", namespace, Name(upstream), err)
	}
	return nil
}
