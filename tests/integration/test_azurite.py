"""Azurite as the sandbox starts it."""

import socket

import pytest
from azure.data.tables import TableClient
from azure.storage.queue import QueueClient

from sandbox.azurite import AzuriteError, AzuritePorts, running_azurite, start_azurite


def test_data_in_a_folder_outlives_the_process(tmp_path):
    """With a folder, what was written is there again after a restart, under other ports."""
    with running_azurite(directory=tmp_path) as azurite:
        with QueueClient.from_connection_string(azurite.connection_string, "kept") as queue:
            queue.create_queue()
            queue.send_message("here")
        with TableClient.from_connection_string(azurite.connection_string, "kept") as table:
            table.create_table()
            table.create_entity({"PartitionKey": "p", "RowKey": "r", "text": "here"})
    with running_azurite(directory=tmp_path) as azurite:
        with QueueClient.from_connection_string(azurite.connection_string, "kept") as queue:
            message = queue.receive_message()
        with TableClient.from_connection_string(azurite.connection_string, "kept") as table:
            entity = table.get_entity("p", "r")

    assert message is not None
    assert (message.content, entity["text"]) == ("here", "here")


def test_given_ports_are_used():
    """A port that is asked for is the one that listens, so that people can point a storage explorer at it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with running_azurite(ports=AzuritePorts(queue=port)) as azurite:
        assert azurite.ports.queue == port
        assert f"QueueEndpoint=http://127.0.0.1:{port}/" in azurite.connection_string
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_taken_port_is_an_error_and_leaves_nothing_behind():
    """When a port is taken the start fails with what Azurite said, instead of waiting for ever."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AzuriteError, match=r"EADDRINUSE|address already in use"):
        start_azurite(ports=AzuritePorts(queue=taken.getsockname()[1]), timeout_seconds=10)


def test_a_missing_package_says_what_to_do(tmp_path):
    """Without node_modules the error names the command that installs it."""
    with pytest.raises(AzuriteError, match="run 'npm ci' in"):
        start_azurite(project=tmp_path)


def test_stopping_twice_is_harmless():
    """A stopped Azurite can be stopped again."""
    azurite = start_azurite()
    azurite.stop()
    azurite.stop()

    assert azurite.process.returncode is not None
