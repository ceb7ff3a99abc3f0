package discovery

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// promptCache is a cache that says at once when it has synced. Client-go looks ten times a
// second, which is most of the time that a start takes.
type promptCache struct {
	cache.Cache
	mu        sync.Mutex
	informers []cache.Informer
}

func newPromptCache(c *rest.Config, o cache.Options) (cache.Cache, error) {
	inner, err := cache.New(c, o)
	return &promptCache{Cache: inner}, err
}

// GetInformer implements cache.Cache.
func (p *promptCache) GetInformer(ctx context.Context, o client.Object, opts ...cache.InformerGetOption) (cache.Informer, error) {
	i, err := p.Cache.GetInformer(ctx, o, opts...)
	if err == nil {
		p.mu.Lock()
		p.informers = append(p.informers, i)
		p.mu.Unlock()
	}
	return i, err
}

// WaitForCacheSync implements cache.Cache.
func (p *promptCache) WaitForCacheSync(ctx context.Context) bool {
	p.mu.Lock()
	informers := p.informers
	p.mu.Unlock()
	_ = wait.PollUntilContextCancel(ctx, 2*time.Millisecond, true, func(context.Context) (bool, error) {
		for _, i := range informers {
			if !i.HasSynced() {
				return false, nil
			}
		}
		return true, nil
	}) // ends with ctx only, which the line below tells
	return p.Cache.WaitForCacheSync(ctx)
}
