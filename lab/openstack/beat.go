package openstack

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// Beat sends the heartbeat that a load balancer's amphora would send, with the
// statuses of members by their ids: UP, DOWN, DRAIN, MAINT or "no check". Members
// that aren't named are UP. Octavia takes it in a moment later.
func (c *Client) Beat(ctx context.Context, id string, members map[string]string) error {
	message, err := c.heartbeat(ctx, id, members)
	if err != nil {
		return fmt.Errorf("heartbeat of load balancer %s: %w", id, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", c.access.Heartbeats)
	if err != nil {
		return fmt.Errorf("heartbeat of load balancer %s: %w", id, err)
	}
	_, err = conn.Write(message)
	return errors.Join(err, conn.Close())
}

func (c *Client) heartbeat(ctx context.Context, id string, statuses map[string]string) ([]byte, error) {
	out, err := c.octavia(ctx, http.MethodGet, "/octavia/amphorae?loadbalancer_id="+url.QueryEscape(id), nil)
	if err != nil {
		return nil, err
	}
	amphorae := list(out, "amphorae")
	if len(amphorae) == 0 {
		return nil, errors.New("it has no amphora")
	}
	lb, err := c.Get(ctx, id, "")
	if err != nil {
		return nil, err
	}
	listeners, pools := Object{}, Object{}
	for _, l := range list(lb, "listeners") {
		if l, err = c.Get(ctx, id, "listener/"+l.ID()); err != nil {
			return nil, err
		}
		if l["admin_state_up"] != true {
			continue
		}
		listeners[l.ID()] = Object{"status": "OPEN", "stats": Object{"tx": 0, "rx": 0, "conns": 0, "totconns": 0, "ereq": 0}}
	}
	for _, p := range list(lb, "pools") {
		if pools[p.ID()+":lab"], err = c.poolBeat(ctx, p.ID(), statuses); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(Object{"id": amphorae[0].ID(), "seq": 1, "ver": 2, "listeners": listeners, "pools": pools})
	if err != nil {
		return nil, err
	}
	return c.sign(b)
}

// poolBeat is a pool's part of a heartbeat. A pool is down when all its members are.
func (c *Client) poolBeat(ctx context.Context, id string, statuses map[string]string) (Object, error) {
	all, err := c.Members(ctx, id)
	if err != nil {
		return nil, err
	}
	members, status := Object{}, "DOWN"
	for _, m := range all {
		members[m.ID()] = "UP"
		if s, ok := statuses[m.ID()]; ok {
			members[m.ID()] = s
		}
		if members[m.ID()] != "DOWN" {
			status = "UP"
		}
	}
	if len(members) == 0 {
		status = "UP"
	}
	return Object{"status": status, "members": members}, nil
}

// sign compresses a message and adds its code, in the form that Octavia expects.
func (c *Client) sign(message []byte) ([]byte, error) {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(message); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, []byte(c.access.HeartbeatKey))
	mac.Write(b.Bytes())
	return append(b.Bytes(), hex.EncodeToString(mac.Sum(nil))...), nil
}
