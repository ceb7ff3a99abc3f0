package kubernetes

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/projectcontour/gimbal/internal/upstream"
)

// stream is a watch whose objects are items. While it is a streaming list it ends with
// an error when it makes no progress: the reflector would wait for ever for the bookmark
// that closes the list, which some proxies drop. Progress is as many objects as a page has
// in StreamTimeout, which is what a page may take. Fewer may be new ones, after the list.
type stream struct {
	resource *resource
	inner    watch.Interface
	bytes    *upstream.Allowance // of the next event
	ctx      context.Context
	cancel   context.CancelFunc
	result   chan watch.Event
	initial  bool          // the streaming list isn't complete yet
	listed   bool          // events of the streaming list have come that no longer list: only the bookmark is to come
	objects  int           // of the streaming list so far
	used     size          // of the streaming list so far
	lifetime time.Duration // of a watch; a server that ended it would have closed it by then
}

func (s *stream) Stop() { s.cancel() }

func (s *stream) ResultChan() <-chan watch.Event { return s.result }

func (s *stream) run() {
	defer close(s.result)
	defer s.cancel()
	defer s.inner.Stop()
	timeout := s.lifetime
	if s.initial {
		timeout = s.resource.source.options.StreamTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
			s.expire()
			return
		case <-s.resource.relist:
			if !s.initial && s.resource.source.mustList(s.resource) {
				s.fail(errRelist)
				return
			}
		case e, ok := <-s.inner.ResultChan():
			if !ok {
				s.closed()
				return
			}
			s.bytes.Renew(maxObject)
			first := s.initial
			if !s.handle(e) {
				return
			}
			s.listed = s.listed || e.Type != watch.Added
			s.objects++
			switch {
			case s.initial && !s.listed && s.objects%pageSize == 0:
				timer.Reset(timeout)
			case !s.initial && first:
				timer.Reset(s.lifetime)
			}
		}
	}
}

// handle converts and passes on an event; it returns false where that was the last one.
func (s *stream) handle(e watch.Event) bool {
	switch e.Type {
	case watch.Error:
		s.fail(apierrors.FromObject(e.Object))
		return false
	case watch.Bookmark:
		if m, err := meta.Accessor(e.Object); err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
			s.initial = false
		}
		return s.send(e)
	}
	i, err := s.resource.source.converter.item(e.Object)
	if err == nil && e.Type != watch.Deleted && i.row != nil {
		err = s.fits(i)
	}
	if err != nil {
		s.fail(err)
		return false
	}
	if s.initial && i.row == nil {
		return true
	}
	return s.send(watch.Event{Type: e.Type, Object: i})
}

// fits returns an error where the item takes the listing, or the inventory, past the budget.
func (s *stream) fits(i *item) error {
	source, kind := s.resource.source, s.resource.kind
	if !s.initial {
		return check(source.options.Limits, kind, source.sizeWith(s.resource, i))
	}
	s.used = s.used.plus(i.row.size())
	return check(source.options.Limits, kind, s.used)
}

func (s *stream) send(e watch.Event) bool {
	select {
	case <-s.ctx.Done():
		return false
	case s.result <- e:
		return true
	}
}

// expire ends a stream that makes no progress.
func (s *stream) expire() {
	if s.initial {
		s.resource.readPages()
		s.fail(errStalled)
	}
}

// closed ends a stream that the server has closed, which is usual but for a streaming list.
func (s *stream) closed() {
	if s.initial {
		s.fail(errUnfinished)
	}
}

// fail ends the stream with an error. The listing that follows on a streaming list reports its own.
func (s *stream) fail(err error) {
	if !s.initial || tooBig(err) {
		_ = s.resource.failed("watch", err)
	}
	status := metav1.Status{Status: metav1.StatusFailure, Message: upstream.Clean(err.Error())}
	if s, ok := err.(apierrors.APIStatus); ok && expired(err) {
		status = s.Status()
	}
	s.send(watch.Event{Type: watch.Error, Object: &status})
}
