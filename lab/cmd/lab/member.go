package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/projectcontour/gimbal/lab/control"
	"github.com/projectcontour/gimbal/lab/member"
	"github.com/projectcontour/gimbal/lab/state"
)

func newMember() *cobra.Command {
	cmd := &cobra.Command{
		Use: "member", Short: "Start and end what OpenStack's load balancers can have as members",
		Long: `member starts and ends instances of the sample application, at addresses in the range
that belongs to the OpenStack's members. Which load balancers have them as members is
said in OpenStack.`,
	}
	cmd.AddCommand(newMemberStart(), newMemberStop())
	return cmd
}

func newMemberStart() *cobra.Command {
	var m member.Member
	cmd := &cobra.Command{
		Use: "start ADDRESS:PORT NAME", Short: "Start a member that calls itself NAME", Args: cobra.ExactArgs(2),
		Example: "  lab member start 10.251.0.13:8080 shop-3",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if m.At, err = place(args[0]); err != nil {
				return err
			}
			m.Name = args[1]
			s, err := state.Load()
			if err != nil {
				return err
			}
			return control.NewClient(s.Control()).StartMember(cmd.Context(), m)
		},
	}
	cmd.Flags().StringVar(&m.Namespace, "namespace", "team-a", "what it calls its namespace")
	return cmd
}

func newMemberStop() *cobra.Command {
	return &cobra.Command{
		Use: "stop ADDRESS:PORT", Short: "End the member that listens there", Args: cobra.ExactArgs(1),
		Example: "  lab member stop 10.251.0.12:8080",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := place(args[0])
			if err != nil {
				return err
			}
			s, err := state.Load()
			if err != nil {
				return err
			}
			return control.NewClient(s.Control()).StopMember(cmd.Context(), at)
		},
	}
}

func place(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return at, fmt.Errorf("%q isn't an address and a port, such as 10.251.0.13:8080: %w", s, err)
	}
	return at, nil
}
