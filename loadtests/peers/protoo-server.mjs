// npm protoo-server doing what an edge does for a join and a broadcast: who is there, who came, and a value for all others, as
// its documentation has it: the room is named in the address, joining is a request. One process, no store, nothing survives it.

import http from 'node:http';
import protoo from 'protoo-server';

const rooms = new Map();

function roomOf(rid) {
  let room = rooms.get(rid);
  if (!room) rooms.set(rid, (room = { room: new protoo.Room(), joined: new Set() }));
  return room;
}

function serve(rid, id, transport) {
  const { room, joined } = roomOf(rid);
  const peer = room.createPeer(id, transport);
  const tellOthers = (method, data) => {
    for (const other of joined) {
      if (other !== peer) other.notify(method, data).catch(() => {});
    }
  };
  const leave = () => {
    if (joined.delete(peer)) tellOthers('peer-leave', { rid, uid: id });
  };
  peer.on('request', ({ method, data }, accept, reject) => {
    switch (method) {
      case 'join':
        accept({ users: [...joined].map((other) => ({ rid, uid: other.id })), pubs: [] });
        joined.add(peer);
        tellOthers('peer-join', { rid, uid: id });
        break;
      case 'broadcast':
        accept({});
        tellOthers('broadcast', { rid, uid: id, data: data.data });
        break;
      case 'leave':
        leave();
        accept({});
        break;
      default:
        reject(-1, 'unknown method');
    }
  });
  peer.on('close', () => {
    leave();
    if (room.peers.length === 0) rooms.delete(rid);
  });
}

const server = http.createServer();
const sockets = new protoo.WebSocketServer(server, { maxReceivedFrameSize: 262_144, fragmentOutgoingMessages: false });
sockets.on('connectionrequest', ({ request }, accept) => {
  const query = new URL(request.url, 'http://server').searchParams;
  serve(query.get('room'), query.get('peer'), accept());
});
server.listen(0, '127.0.0.1', 1024, () => console.log(`ready: clients=127.0.0.1:${server.address().port}`));
