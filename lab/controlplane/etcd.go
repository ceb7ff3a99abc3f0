package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/projectcontour/gimbal/lab/component"
)

// SaveEtcd keeps what etcd holds now, for RestoreEtcd. The API server is out of reach meanwhile.
func (c *ControlPlane) SaveEtcd(ctx context.Context) error {
	return c.withoutEtcd(ctx, func(data, saved string) error {
		if err := os.RemoveAll(saved); err != nil {
			return err
		}
		return os.CopyFS(saved, os.DirFS(data))
	})
}

// RestoreEtcd takes the cluster back to what SaveEtcd kept, versions of objects included, as
// a restore from a backup does.
func (c *ControlPlane) RestoreEtcd(ctx context.Context) error {
	return c.withoutEtcd(ctx, func(data, saved string) error {
		if _, err := os.Stat(saved); err != nil {
			return fmt.Errorf("restore etcd of %s: save it first: %w", c.opts.Name, err)
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
		return os.CopyFS(data, os.DirFS(saved))
	})
}

// withoutEtcd does something with etcd's data while neither it nor the API server runs.
func (c *ControlPlane) withoutEtcd(ctx context.Context, do func(data, saved string) error) error {
	for _, program := range []string{component.APIServer, component.Etcd} {
		if err := c.stop(program); err != nil {
			return err
		}
	}
	if err := do(filepath.Join(c.opts.Dir, "etcd"), filepath.Join(c.opts.Dir, "etcd-saved")); err != nil {
		return err
	}
	if err := c.startEtcd(); err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}
