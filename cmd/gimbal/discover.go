package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/projectcontour/gimbal/internal/accept"
	"github.com/projectcontour/gimbal/internal/discovery"
	"github.com/projectcontour/gimbal/internal/upstream"
)

// policyFlags are what the operator lets every upstream do.
type policyFlags struct {
	centralCIDRs []string
	deniedLabels []string
	allow        upstream.Allow
	limits       upstream.Limits
}

func (p *policyFlags) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&p.centralCIDRs, "central-cidr", nil, "`CIDR` of the central cluster, refused as an endpoint of any upstream; its nodes' addresses, pod CIDRs and Service CIDRs are known already (repeatable)")
	f.StringSliceVar(&p.deniedLabels, "deny-label", nil, "label `KEY`, or prefix ending in /*, that is never mirrored, beside those by which other controllers claim objects (repeatable)")
	f.BoolVar(&p.allow.InsecureTLS, "allow-insecure-upstreams", false, "accept credentials with insecure-skip-tls-verify, verify: false or http: anyone on the way can then be the upstream")
	f.BoolVar(&p.allow.ExecPlugins, "allow-exec-credentials", false, "accept kubeconfigs with exec credentials: whoever writes the Secret then runs programs in the agent")
	l := upstream.DefaultLimits()
	f.IntVar(&p.limits.Services, "max-services", l.Services, "most Services, or load balancers, that one upstream may have; with more it is TooLarge and stays as it was last seen")
	f.IntVar(&p.limits.Slices, "max-endpointslices", l.Slices, "most EndpointSlices, or listeners or pools, that one upstream may have")
	f.IntVar(&p.limits.Endpoints, "max-endpoints", l.Endpoints, "most endpoints, or members, that one upstream may have")
	f.IntVar(&p.limits.Bytes, "max-bytes", l.Bytes, "about the most bytes of memory that the Services, and that the EndpointSlices, of one upstream may take")
	f.IntVar(&p.limits.Nodes, "max-nodes", l.Nodes, "most nodes that one upstream may have")
}

func (p *policyFlags) policy() (accept.Policy, error) {
	out := accept.Policy{
		Kinds: kinds(),
		Allow: p.allow, Limits: p.limits, DeniedLabels: p.deniedLabels,
		UserAgent: "gimbal/" + buildVersion(),
	}
	for _, s := range p.centralCIDRs {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return out, fmt.Errorf("--central-cidr: %w", err)
		}
		out.CentralCIDRs = append(out.CentralCIDRs, prefix.Masked())
	}
	return out, nil
}

func newDiscoverCommand() *cobra.Command {
	var central connection
	var log logging
	var policy policyFlags
	options := discovery.Options{}
	cmd := &cobra.Command{
		Use:   "discover",
		Short: "Mirror the Services of upstream clusters into the central cluster",
		Long: `Watches the UpstreamClusters of one namespace and runs an agent for each, which
keeps the upstream's Services and EndpointSlices in the central namespaces of the
same names. Replicas share the upstreams by Leases.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if options.Policy, err = policy.policy(); err != nil {
				return err
			}
			if options.Config, err = central.unbound(); err != nil {
				return err
			}
			if options.Identity, err = identity(options.Identity); err != nil {
				return err
			}
			if options.Workers < 1 || options.LeaseDuration < 5*time.Second {
				return fmt.Errorf("--workers must be at least 1 and --lease-duration at least 5s")
			}
			options.Namespace, options.Logger, options.Clock = central.namespace, logger, clock.RealClock{}
			options.Registerer = metrics.Registry
			spareMemory(cmd.Context())
			logger.Info("gimbal discover", "version", buildVersion(), "namespace", central.namespace, "identity", options.Identity)
			return discovery.Run(cmd.Context(), options)
		},
	}
	f := cmd.Flags()
	central.addFlags(f)
	log.addFlags(f)
	policy.addFlags(f)
	f.StringVar(&options.MetricsAddress, "metrics-bind-address", ":8080", "`ADDRESS` that /metrics is served at; 0 serves none")
	f.StringVar(&options.ProbeAddress, "health-probe-bind-address", ":8081", "`ADDRESS` that /healthz and /readyz are served at; 0 serves none")
	f.StringVar(&options.PprofAddress, "pprof-bind-address", "0", "`ADDRESS` that Go's profiles are served at; 0 serves none")
	f.StringSliceVar(&options.Upstreams, "upstream", nil, "serve only the `UPSTREAM` of this name (repeatable)")
	f.IntVar(&options.Workers, "workers", 16, "how many Services of one upstream are written at once")
	f.DurationVar(&options.LeaseDuration, "lease-duration", 15*time.Second, "after how long without a sign of life another replica takes an upstream over")
	f.StringVar(&options.Identity, "identity", "", "name of this replica in Leases (default: host name and process id)")
	return cmd
}
