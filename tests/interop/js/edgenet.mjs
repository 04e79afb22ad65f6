// The wire as protocols/ describes it, written from those pages alone. No code of the node, and none of libp2p's.
import { createHash } from 'node:crypto'
import { decode, encode } from '@msgpack/msgpack'

export const REQUEST = 0, RESPONSE = 1, ERROR = 2
const PAYLOAD_MAX = 1024 * 1024

// -- protocols/rpc: frames and calls

export function frame (kind, id, payload) {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(9 + payload.length, 0)
  header.writeBigUInt64BE(BigInt(id), 4)
  header.writeUInt8(kind, 12)
  return Buffer.concat([header, payload])
}

async function * frames (stream) {
  let held = Buffer.alloc(0)
  for await (const chunk of stream) {
    held = Buffer.concat([held, chunk.subarray()])
    while (held.length >= 13) {
      const length = held.readUInt32BE(0)
      if (length < 9 || length > 9 + PAYLOAD_MAX) throw new Error(`a frame of ${length} bytes`)
      if (held.length < 4 + length) break
      yield { id: Number(held.readBigUInt64BE(4)), kind: held.readUInt8(12), payload: held.subarray(13, 4 + length) }
      held = held.subarray(4 + length)
    }
  }
}

/** A call stream, opener's side. `farewell` settles with the error of id 0, or with nothing when the stream ends. */
export class Calls {
  #stream
  #open = new Map()
  #last = 0

  constructor (stream) {
    this.#stream = stream
    this.farewell = this.#read()
  }

  /** `[0, body]` or `[1, error]`. */
  call (name, body) {
    const id = ++this.#last
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject })
      this.#stream.send(frame(REQUEST, id, encode([name, body])))
    })
  }

  async #read () {
    let last
    try {
      for await (const { id, kind, payload } of frames(this.#stream)) {
        if (kind === ERROR && id === 0) {
          last = decode(payload)
          break
        }
        const waits = this.#open.get(id)
        this.#open.delete(id)
        if (kind === RESPONSE) waits?.resolve(decode(payload))
        else waits?.reject(new Error(`error frame: ${decode(payload)}`))
      }
    } catch (error) {
      last ??= undefined // a reset is an end, too
    }
    for (const { reject } of this.#open.values()) reject(new Error(`the stream ended: ${last}`))
    this.#open.clear()
    return last
  }
}

// -- protocols/encoding: signatures. `key` verifies: async (message, signature) => boolean

export function signedBytes (domain, message) {
  return Buffer.concat([Buffer.from('edgenet/sign/1\0'), Buffer.from([domain.length]), Buffer.from(domain), message])
}

// -- protocols/identity

export function piKey (publicKey) {
  const found = createHash('sha512').update(Buffer.from('3141592653589793', 'hex')).update(publicKey).digest().subarray(0, 40)
  Buffer.from('31415926', 'hex').forEach((byte, at) => { found[at] ^= byte })
  return found
}

/** Whether a genesis record follows from its own fields (ID-3). */
export async function genesisHolds ({ genesis, founder, epoch, created_ms: createdMs, signature }, verify) {
  const tail = Buffer.alloc(12)
  tail.writeUInt32BE(epoch, 0)
  tail.writeBigUInt64BE(BigInt(createdMs), 4)
  const name = createHash('sha256').update('GENESIS_ORIGIN:').update(Buffer.from('16180339', 'hex'))
    .update(piKey(founder)).update(tail).digest().subarray(0, 21)
  const message = Buffer.concat([genesis, founder, tail])
  return name.equals(genesis) && await verify(founder, signedBytes('genesis', message), signature)
}

// -- protocols/hello: signed peer records

export async function makeRecord (publicKey, sign, swarm, addresses) {
  const body = encode({ public_key: publicKey, swarm, seq: Date.now(), addresses })
  return { body, signature: await sign(signedBytes('peer-record', body)) }
}

/** The record that is signed; an error when it does not hold (HELLO-5). */
export async function openRecord ({ body, signature }, swarm, verify) {
  const record = decode(body)
  const { public_key: publicKey, swarm: named, seq, addresses } = record
  if (!Buffer.from(encode({ public_key: publicKey, swarm: named, seq, addresses })).equals(body)) throw new Error('not canonical')
  if (named !== swarm) throw new Error('a record of another swarm')
  if (!await verify(publicKey, signedBytes('peer-record', body), signature)) throw new Error('a false signature')
  return record
}
