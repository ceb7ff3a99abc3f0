// Package openstack reads upstream clouds that are OpenStack: the load balancers of
// Octavia, and the projects of Keystone that they belong to.
package openstack

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/projectcontour/gimbal/api/v1alpha1"
	"github.com/projectcontour/gimbal/internal/mirror"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// Options are what a Source needs.
type Options struct {
	Config *Config
	// Addressing is Member where empty.
	Addressing v1alpha1.OpenStackAddressing
	Selection  Selection
	Limits     upstream.Limits
	// Logger is slog's default where nil.
	Logger *slog.Logger
	// PollInterval is the time from one cycle to the next; 30 s where zero.
	PollInterval time.Duration
	// HealthInterval is after how long members are read again though nothing shows a change; 15 min where zero.
	HealthInterval time.Duration
	// ProbeInterval is the time from one probe to the next between cycles; 10 s where zero.
	ProbeInterval time.Duration
	// RequestTimeout is how long a request may take; 20 s where zero. With ProbeInterval it
	// bounds the time until a cloud that hangs is reported.
	RequestTimeout time.Duration
}

const (
	// probeTimeout is how long a probe may take, at most.
	probeTimeout = 8 * time.Second
	// followUps is how many cycles, beside those at its ends, there may be within a poll
	// interval for load balancers in the middle of a change.
	followUps = 5
)

// Source keeps the inventory of an OpenStack cloud by reading it in cycles.
type Source struct {
	options   Options
	session   *session
	inventory atomic.Pointer[inventory]
	followUps *rate.Limiter
}

var _ upstream.Source = (*Source)(nil)

// New returns a Source that has read nothing yet.
func New(o Options) *Source {
	o.Addressing = cmp.Or(o.Addressing, v1alpha1.AddressingMember)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.PollInterval = cmp.Or(o.PollInterval, 30*time.Second)
	o.HealthInterval = cmp.Or(o.HealthInterval, 15*time.Minute)
	o.ProbeInterval = cmp.Or(o.ProbeInterval, 10*time.Second)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 20*time.Second)
	o.Limits = cmp.Or(o.Limits, upstream.DefaultLimits())
	s := &Source{
		options: o, session: newSession(o.Config, o.RequestTimeout),
		followUps: rate.NewLimiter(rate.Every(max(1, o.PollInterval/followUps)), followUps),
	}
	s.inventory.Store(&inventory{})
	return s
}

// Run reads the cloud until ctx ends and returns ctx's error. It may be called once.
func (s *Source) Run(ctx context.Context, o upstream.Observer) error {
	defer s.session.transport.CloseIdleConnections()
	failures := 0
	for {
		start, requests := time.Now(), s.session.requests.Load()
		found, err := s.cycle(ctx, s.inventory.Load())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var pause time.Duration
		if err == nil {
			s.replace(found, o)
			took := time.Since(start)
			o.Polled(upstream.Cycle{Duration: took, Requests: int(s.session.requests.Load() - requests)})
			o.Complete()
			failures = 0
			pause = s.pause(found, took)
		} else {
			failures++
			pause = s.failed(o, err, failures)
		}
		if err := s.wait(ctx, o, pause, failures == 0); err != nil {
			return err
		}
	}
}

// replace has found take the place of the inventory. What differs is reported with it.
// Before the first complete view there is nobody to report to.
func (s *Source) replace(found *inventory, o upstream.Observer) {
	before := s.inventory.Load()
	keys := found.changed(before)
	if before.entries == nil || len(keys) == 0 && found.identity == before.identity {
		s.inventory.Store(found)
		return
	}
	o.Update(upstream.Live, func() []mirror.Key { s.inventory.Store(found); return keys })
}

// failed reports an error and returns when to try again.
func (s *Source) failed(o upstream.Observer, err error, failures int) time.Duration {
	e := s.classify(err)
	if e.Reason == upstream.ReasonUnauthorized || failures > 1 && e.Reason == upstream.ReasonServerError {
		s.session.logout()
	}
	o.Failed(e)
	return retry(e.Reason, failures, s.options.PollInterval)
}

func (s *Source) classify(err error) *upstream.Error {
	auth := s.options.Config.Auth
	return classify(err, auth.Password, auth.ApplicationCredentialSecret)
}

// wait lets a pause pass. While all is well the cloud is probed meanwhile, and a
// probe that fails ends the pause.
func (s *Source) wait(ctx context.Context, o upstream.Observer, pause time.Duration, well bool) error {
	end := time.NewTimer(pause)
	defer end.Stop()
	probe := time.NewTicker(s.options.ProbeInterval)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-probe.C:
			if !well {
				continue
			}
			if err := s.probe(ctx); err != nil && ctx.Err() == nil {
				o.Failed(s.classify(err))
				end.Reset(min(time.Second, s.options.ProbeInterval))
				well = false
			}
		}
	}
}

// Service implements upstream.Source.
func (s *Source) Service(key mirror.Key) (*mirror.Service, bool) {
	service, ok := s.inventory.Load().services[key]
	return service, ok
}

// Keys implements upstream.Source.
func (s *Source) Keys() []mirror.Key { return s.inventory.Load().keys() }

// Identity implements upstream.Source: it names the Octavia of the catalog and the
// credential's domain.
func (s *Source) Identity() string { return s.inventory.Load().identity }
