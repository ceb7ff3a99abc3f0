package central

import (
	"context"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// restoreInterval is how often the central cluster is asked for its version.
const restoreInterval = 5 * time.Second

// RestoreDetector notices that the central cluster has gone back to an earlier state, as when
// its etcd is restored from a backup: versions are then lower than they were. A watch doesn't
// tell; one that goes on at a version which is yet to come hears nothing.
type RestoreDetector struct {
	client   kubernetes.Interface
	clock    clock.WithTicker
	logger   *slog.Logger
	restored func()
	highest  string
}

// NewRestoreDetector returns a RestoreDetector that calls restored when it notices.
func NewRestoreDetector(client kubernetes.Interface, clock clock.WithTicker, logger *slog.Logger, restored func()) *RestoreDetector {
	return &RestoreDetector{client: client, clock: clock, logger: logger, restored: restored}
}

// Run looks until ctx ends.
func (d *RestoreDetector) Run(ctx context.Context) {
	ticker := d.clock.NewTicker(restoreInterval)
	defer ticker.Stop()
	for {
		d.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// look asks once. After a failure the next answer is compared with the last one before it.
func (d *RestoreDetector) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, restoreInterval)
	defer cancel()
	list, err := d.client.CoreV1().Services("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return
	}
	before := d.highest
	d.highest = list.ResourceVersion
	if older(list.ResourceVersion, before) {
		d.logger.Warn("the central cluster has gone back to an earlier state: it is listed again", "was", before, "is", list.ResourceVersion)
		d.restored()
	}
}
