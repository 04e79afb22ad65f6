// A peer of another implementation: node client.mjs MULTIADDR. Prints one JSON object a step, then waits for a line on
// its input before the next one that does harm.
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPair, publicKeyFromRaw } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { decode, encode } from '@msgpack/msgpack'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Calls, genesisHolds, makeRecord, openRecord } from './edgenet.mjs'

// js-libp2p asks for Node 22; this is all that it misses in Node 20.
Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const say = (step, found = {}) => process.stdout.write(JSON.stringify({ step, ...found }) + '\n')
const input = createInterface({ input: process.stdin })
const lines = input[Symbol.asyncIterator]()
const verify = async (key, message, signature) => publicKeyFromRaw(key).verify(message, signature)
const nameOf = (key) => peerIdFromPublicKey(publicKeyFromRaw(key)).toString()
const require = (held, what) => { if (!held) throw new Error(what) }

const privateKey = await generateKeyPair('Ed25519')
const host = await createLibp2p({
  privateKey,
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: gossipsub() }
})
const { pubsub, ping: pinger } = host.services

// Connect: nothing but what every libp2p peer does.
const identified = once(host, 'peer:identify')
const connection = await host.dial(multiaddr(process.argv[2]))
const node = connection.remotePeer
const [{ detail }] = await identified
say('connected', {
  peer: host.peerId.toString(),
  node: node.toString(),
  encryption: connection.encryption,
  multiplexer: connection.multiplexer,
  agent: detail.agentVersion,
  protocols: detail.protocols,
  ping_ms: await pinger.ping(node)
})

// Hello, as a fresh peer: swarm and record are adopted from the welcome.
const hello = new Calls(await connection.newStream('/edgenet/hello/1'))
const [status, welcome] = await hello.call('hello/1', { swarm: '', version: 'js', record: null })
require(status === 0, `hello was refused: ${JSON.stringify(welcome)}`)
const { swarm } = welcome
require(Buffer.from(welcome.genesis.genesis).toString('hex') === swarm, 'the genesis is of another swarm')
require(await genesisHolds(welcome.genesis, verify), 'the genesis does not hold')
const record = await openRecord(welcome.record, swarm, verify)
require(nameOf(record.public_key) === node.toString(), 'the record is of another peer')
say('welcome', { swarm, version: welcome.version, addresses: record.addresses, records: welcome.records.length })

// Gossip, both ways: the node's presence, and ours.
const presence = `/edgenet/${swarm}/presence/1`
const heard = new Promise((resolve, reject) => {
  pubsub.addEventListener('message', ({ detail }) => {
    if (detail.topic !== presence || detail.type !== 'signed' || !detail.from.equals(node)) return
    const found = decode(detail.data)
    openRecord(found.record, swarm, verify).then((own) => {
      require(nameOf(own.public_key) === node.toString(), 'a presence with the record of another')
      resolve(found)
    }).catch(reject)
  })
})
pubsub.subscribe(presence)
while (!pubsub.getSubscribers(presence).some((peer) => peer.equals(node))) await once(pubsub, 'subscription-change')
const { capabilities, workers, load } = await heard
const own = await makeRecord(privateKey.publicKey.raw, (message) => privateKey.sign(message), swarm,
  host.getMultiaddrs().map(String))
const { recipients } = await pubsub.publish(presence, encode({ record: own, capabilities: [], workers: 0, load: 0, version: 'js' }))
say('presence', { topic: presence, capabilities, workers, load, recipients: recipients.map(String) })

// Calls of members.
const rpc = new Calls(await connection.newStream(`/edgenet/${swarm}/rpc/1`))
async function listed () {
  const [code, found] = await rpc.call('peers.list/1', { records_max: 8 })
  require(code === 0, `peers.list/1: ${JSON.stringify(found)}`)
  return Promise.all(found.records.map(async (signed) => nameOf((await openRecord(signed, swarm, verify)).public_key)))
}
const [unknown, error] = await rpc.call('peers.fly/1', {})
say('calls', { peers: await listed(), unknown, error })

// Harm, on request.
await lines.next()
await pubsub.publish(presence, randomBytes(300))
await pubsub.publish(presence, encode({ record: own, capabilities: [], workers: -1, load: 0, version: 'js' }))
say('garbage', { peers: await listed(), ping_ms: await pinger.ping(node) })

await lines.next()
const closed = once(connection, 'close')
const codes = []
try {
  while (codes.length < 40) {
    const [, answer] = await hello.call('hello/1', { swarm: '', version: 'js', record: welcome.record })
    codes.push(answer.code)
  }
} catch { /* cut off, as it should be */ }
const farewell = await rpc.farewell
await closed
say('refused', { hellos: codes, farewell })

await host.stop()
input.close()
