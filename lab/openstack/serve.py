"""serve.py keystone|octavia|neutron CONFIG: one of OpenStack's services, on a unix socket named after it.

With Octavia's API its worker and the receiver of its amphorae's heartbeats run in
one process, joined by an in-process transport instead of a message broker. While the
file octavia.hold exists the worker begins nothing, and what is asked for stays pending.
"""
import os
import signal
import sys
import threading
import time
from concurrent import futures

import sqlalchemy
import waitress

which, config = sys.argv[1:]
sys.argv = [which]  # the applications read the arguments themselves
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def keystone():
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
    from keystone.wsgi.api import application
    return application


def octavia():
    # The no-op drivers keep their objects in a file of /tmp, which all would share.
    create = sqlalchemy.create_engine
    sqlalchemy.create_engine = lambda url, *args, **options: create(
        url.replace("sqlite:////tmp/", "sqlite:///") if isinstance(url, str) else url, *args, **options)
    from octavia.amphorae.drivers.health import heartbeat_udp
    from octavia.api import app
    from octavia.controller.queue.v2 import consumer
    from oslo_config import cfg
    from oslo_messaging.rpc import dispatcher
    dispatch = dispatcher.RPCDispatcher.dispatch

    def held(*args):
        while os.path.exists("octavia.hold"):
            time.sleep(0.05)
        return dispatch(*args)

    dispatcher.RPCDispatcher.dispatch = held
    application = app.setup_app(argv=["octavia", "--config-file", config])
    consumer.ConsumerService(0, cfg.CONF).run()
    receiver = heartbeat_udp.UDPStatusGetter()
    # Threads, since forked children would go on holding the socket.
    receiver.health_executor = futures.ThreadPoolExecutor(1)
    receiver.stats_executor = futures.ThreadPoolExecutor(1)
    threading.Thread(target=lambda: [receiver.check() for _ in iter(int, 1)], daemon=True).start()
    return application


def neutron():
    os.environ["OS_NEUTRON_CONFIG_DIR"], os.environ["OS_NEUTRON_CONFIG_FILES"] = os.path.split(config)
    from neutron.wsgi.api import application
    return application


waitress.serve({"keystone": keystone, "octavia": octavia, "neutron": neutron}[which](), unix_socket=which + ".sock",
               threads=8, ident=which, url_scheme="https")
